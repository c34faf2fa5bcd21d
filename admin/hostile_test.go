package admin_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestHostileBodiesAreRefused(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	deeper := strings.Repeat(`[`, 500_000)
	for name, body := range map[string]string{
		"nothing":              " ",
		"cut":                  `{"name":"x"`,
		"trailing document":    `{"name":"x"}{"name":"y"}`,
		"trailing garbage":     `{"name":"x"} x`,
		"trailing comma":       `{"name":"x",}`,
		"comment":              `{"name":"x"/**/}`,
		"single quotes":        `{'name':'x'}`,
		"duplicate":            `{"name":"x","name":"y"}`,
		"duplicate escaped":    `{"name":"x","n\u0061me":"y"}`,
		"duplicate deep":       `{"name":"x","budgets":[{"period":"daily","limitUsd":1,"limitUsd":1000}]}`,
		"array":                `[{"name":"x"}]`,
		"string":               `"name"`,
		"null":                 `null`,
		"not UTF-8":            "{\"name\":\"\xff\xfe\"}",
		"overlong UTF-8":       "{\"name\":\"\xc0\x80\"}",
		"byte order mark":      "\ufeff{\"name\":\"x\"}",
		"deep":                 `{"name":"x","extra":` + deep + `}`,
		"deeper than a stack":  deeper,
		"NaN":                  `{"name":"x","rateLimitPerMin":NaN}`,
		"leading zero":         `{"name":"x","rateLimitPerMin":007}`,
		"raw control in names": "{\"na\nme\":\"x\"}",
	} {
		p := s.refused(http.StatusBadRequest, "invalid_request", "POST", "/admin/tenant", body)
		if !strings.HasPrefix(p.Detail, "The body") || len(p.Detail) > 300 {
			t.Errorf("%s: %q", name, p.Detail)
		}
	}
	if got := s.must(http.StatusOK, "GET", "/admin/tenants", ""); string(got.body) != "{\"tenants\":[],\"nextCursor\":null}\n" {
		t.Errorf("a refused body left %s", got.body)
	}
}

func TestAnAnswerToAThousandMistakesIsBounded(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	var body strings.Builder
	body.WriteString(`{"name":"x"`)
	for i := range 10_000 {
		body.WriteString(`,"` + strings.Repeat("k", 40) + strings.Repeat("é", 30) + string(rune('a'+i%26)) + strings.Repeat("z", i/26) + `":1`)
		if body.Len() > 1<<19 {
			break
		}
	}
	body.WriteString("}")
	p := s.refused(http.StatusBadRequest, "invalid_request", "POST", "/admin/tenant", body.String())
	if len(p.Errors) != 32 {
		t.Errorf("%d mistakes told", len(p.Errors))
	}
	many := `{"name":"x","budgets":[` + strings.TrimSuffix(strings.Repeat(`{"period":"daily","limitUsd":1},`, 20_000), ",") + `]}`
	s.refused(http.StatusBadRequest, "invalid_request", "POST", "/admin/tenant", many)
}

func TestBodiesAreBoundedAndJSON(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	full := `{"name":"x"}` + strings.Repeat(" ", 1<<20-12)
	s.must(http.StatusCreated, "POST", "/admin/tenant", full, "Content-Type", "application/json; charset=UTF-8")
	s.refused(http.StatusRequestEntityTooLarge, "request_too_large", "POST", "/admin/tenant", full+" ")
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/json; charset=latin1", ";"} {
		s.refused(http.StatusUnsupportedMediaType, "unsupported_media_type", "POST", "/admin/tenant", `{"name":"y"}`, "Content-Type", media)
	}
	s.refused(http.StatusUnsupportedMediaType, "unsupported_media_type", "POST", "/admin/tenant", `{"name":"y"}`, "Content-Encoding", "gzip")
	s.refused(http.StatusUnsupportedMediaType, "unsupported_media_type", "POST", "/admin/tenant/x/suspend", `{}`, "Content-Type", "text/plain")
}
