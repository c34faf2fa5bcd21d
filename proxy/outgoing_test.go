package proxy

import (
	"io"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
)

// net/http sends a POST again only if nothing of it was written, and only if it can have the body anew. A
// provider that has just closed an idle connection would else cost a 502 and a presumed charge.
func TestARequestOfWhichNothingWasWrittenCanBeSentAgain(t *testing.T) {
	t.Parallel()
	body := []byte(`{"model":"gpt-4o","stream":true,"messages":[]}`)
	asked, err := request.Parse(request.RouteChat, body)
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := url.Parse("http://127.0.0.1:1/v1")
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{
		s: &Server{cfg: Config{Upstream: upstream}}, r: httptest.NewRequestWithContext(t.Context(), "POST", "/v1/chat/completions", nil),
		route: request.RouteChat, body: body, asked: asked,
	}
	r := x.outgoing(&call{ctx: t.Context()})
	first, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	second, err := io.ReadAll(again)
	if err != nil || string(second) != string(first) || int64(len(first)) != r.ContentLength {
		t.Errorf("the second body is %q, the first %q, the length %d (%v)", second, first, r.ContentLength, err)
	}
}
