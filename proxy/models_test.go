package proxy_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
)

// get asks with a key as Bearer.
func (g *gateway) get(method, path, key string) reply {
	g.tb.Helper()
	r := request(g.tb, method, g.url+path, http.NoBody, "Content-Type", "", "X-API-Key", key)
	return send(r)
}

// listed are the ids of a list of models.
func listed(tb testing.TB, r reply) []string {
	tb.Helper()
	var list struct {
		Object string
		Data   []struct {
			ID, Object string
			Created    *int64
			OwnedBy    string `json:"owned_by"`
		}
	}
	check(tb, json.Unmarshal(r.body, &list))
	ids := []string{}
	for _, m := range list.Data {
		if m.Object != "model" || m.Created == nil || m.OwnedBy == "" {
			tb.Errorf("entry %+v", m)
		}
		ids = append(ids, m.ID)
	}
	if list.Object != "list" || list.Data == nil {
		tb.Errorf("got %.200s", r.body)
	}
	return ids
}

func TestTheListOfModelsHasWhatARequestMayName(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "1")
	all := " " + strings.Join(listed(t, g.get("GET", "/v1/models", key).want(t, 200)), " ") + " "
	for name, in := range map[string]bool{
		"gpt-4o-mini": true, "gpt-4o-mini-2024-07-18": true, "openai/gpt-oss-120b": true,
		"gpt-4o-mini-search-preview": false, "text-embedding-3-small": false,
	} {
		if strings.Contains(all, " "+name+" ") != in {
			t.Errorf("%s: listed is %t", name, !in)
		}
	}
	if r := g.get("HEAD", "/v1/models", key).want(t, 200); len(r.body) != 0 {
		t.Errorf("HEAD has a body: %s", r.body)
	}
	g.nothingForwarded()
	if n := g.metric("budgetguard_requests_total", `"answered"`); n != 2 {
		t.Errorf("%v requests were counted, want 2", n)
	}
}

func TestAKeySeesOnlyTheModelsItMayUse(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	g.tenant("acme", "1")
	key := g.key("acme", domain.IssueKey{
		ID: "key_two", Models: []string{"openai/gpt-oss-120b", "gpt-4o-mini", "gpt-nobody"},
	})
	ids := strings.Join(listed(t, g.get("GET", "/v1/models", key).want(t, 200)), " ")
	if ids != "gpt-4o-mini openai/gpt-oss-120b" {
		t.Errorf("listed %s", ids)
	}
	for path, status := range map[string]int{
		"gpt-4o-mini": 200, "openai/gpt-oss-120b": 200, "openai%2Fgpt-oss-120b": 200,
		"gpt-4o": 404, "gpt-nobody": 404,
	} {
		r := g.get("GET", "/v1/models/"+path, key).want(t, status)
		if status == 404 && (r.code() != "model_not_found" || strings.Contains(string(r.body), `"gpt-4o",`)) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

func TestModelsNeedAKeyAndCountInTheRateLimit(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "1")
	if r := g.get("GET", "/v1/models", "bgk_nobodys").want(t, 401); r.code() != "invalid_api_key" {
		t.Errorf("got %s", r.body)
	}
	one := int64(1)
	g.do("acme", domain.SetRateLimit{PerMin: &one, Actor: "admin"})
	eventually(t, "the rate limit counts", func() bool {
		return g.get("GET", "/v1/models", key).status == http.StatusTooManyRequests
	})
}

func TestTheOfficialClientListsModels(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	client := g.official(g.tenant("acme", "1"))
	page, err := client.Models.List(t.Context())
	check(t, err)
	m, err := client.Models.Get(t.Context(), "gpt-4o-mini")
	check(t, err)
	if len(page.Data) == 0 || m.ID != "gpt-4o-mini" || m.OwnedBy != "openai" {
		t.Errorf("%d models, one is %s", len(page.Data), m.RawJSON())
	}
}
