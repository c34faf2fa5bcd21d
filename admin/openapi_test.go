package admin_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func TestTheDocumentIsValidOpenAPI31(t *testing.T) {
	t.Parallel()
	doc := document(t)
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("version %s", doc.OpenAPI)
	}
	if err := doc.Validate(t.Context(), openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Error(err)
	}
}

func TestTheDocumentHasEveryRouteAndNoOther(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	param := regexp.MustCompile(`:(\w+)`)
	served := []string{"POST /v1/chat/completions", "POST /v1/completions"} // package proxy serves them
	for _, r := range s.echo.Routes() {
		path := param.ReplaceAllString(r.Path, "{$1}")
		asset := strings.HasPrefix(path, "/docs/")
		if r.Method != http.MethodHead && r.Method != "echo_route_not_found" && !asset {
			served = append(served, r.Method+" "+path)
		}
	}
	var described []string
	for path, item := range document(t).Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(served)
	slices.Sort(described)
	if !slices.Equal(served, described) {
		t.Errorf("served %q\ndescribed %q", served, described)
	}
}

func TestEveryOperationHasANameAWordAndItsErrors(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for path, item := range document(t).Paths.Map() {
		for method, op := range item.Operations() {
			if op.OperationID == "" || op.Summary == "" || seen[op.OperationID] || len(op.Tags) != 1 {
				t.Errorf("%s %s: %q %q", method, path, op.OperationID, op.Summary)
			}
			seen[op.OperationID] = true
			if !strings.HasPrefix(path, "/admin") {
				continue
			}
			for _, status := range []int{400, 401, 403, 429, 500, 503} {
				if op.Responses.Status(status) == nil {
					t.Errorf("%s %s does not say what %d is", method, path, status)
				}
			}
			if op.Security == nil || len(*op.Security) != 1 {
				t.Errorf("%s %s does not ask for the admin key", method, path)
			}
		}
	}
}

func TestTheDocumentDescribesBothDialectsOfTheProxysErrors(t *testing.T) {
	t.Parallel()
	schema := document(t).Components.Schemas["ProxyError"].Value
	for _, body := range []map[string]any{
		{"error": "Budget exceeded", "code": "budget_exceeded", "requestId": "r"},
		{"error": map[string]any{"message": "Budget exceeded", "type": "insufficient_quota", "param": nil, "code": "budget_exceeded"}},
	} {
		if err := schema.VisitJSON(body, openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("%v: %v", body, err)
		}
	}
	if err := schema.VisitJSON(map[string]any{"message": "x"}, openapi3.EnableJSONSchema2020()); err == nil {
		t.Error("anything is an error")
	}
}
