package proxy

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/budgetguard/budgetguard/proxy/request"
)

// served is what a 404 says there is.
const served = "served are POST /v1/chat/completions, POST /v1/completions and GET /v1/models; " +
	"the base URL is this server's address with /v1 at its end"

// unknown answers what no route is for, with 405 where another method would have done.
func (s *Server) unknown(c echo.Context) error {
	s.NotFound(c.Response(), c.Request())
	return nil
}

// NotFound answers a request that no route is for, under any path, in the form that its client reads.
// It says what was asked for, what there is, and which base URL was probably meant.
func (s *Server) NotFound(w http.ResponseWriter, r *http.Request) {
	id := requestID(r)
	w.Header().Set("X-Request-Id", id)
	s.boundBody(w, refusedBodyTimeout)
	s.cross(w, r)
	if s.preflight(w, r) {
		return
	}

	if methods := methodsOf(r.URL.Path); methods != "" {
		w.Header().Set("Allow", methods)
		s.writeProblem(w, r, id, &problem{
			status: http.StatusMethodNotAllowed, code: "method_not_allowed", message: "Method not allowed",
			detail: "use " + strings.Replace(methods, ",", " or", 1),
		})
		return
	}

	asked := harmless(r.Method, 20) + " " + harmless(r.URL.Path, 200)
	detail := asked + " is not proxied: " + advice(r.URL.Path) + served
	s.writeProblem(w, r, id, &problem{
		status: http.StatusNotFound, code: "not_found", message: "Not found", detail: detail,
	})
}

// methodsOf lists the methods of a served path, empty for a path that is not served.
func methodsOf(path string) string {
	switch {
	case path == string(request.RouteChat), path == string(request.RouteCompletions):
		return http.MethodPost
	case path == string(routeModels), strings.HasPrefix(path, modelsPrefix) && path != modelsPrefix:
		return http.MethodGet + ", " + http.MethodHead
	}
	return ""
}

// harmless is a text of the caller as it may stand in an answer and on a terminal.
func harmless(text string, most int) string {
	cut := ""
	if len(text) > most {
		text, cut = text[:most], "..."
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, text) + cut
}

// advice is what a path that is not served probably meant, empty where nothing can be guessed.
func advice(path string) string {
	const longest = 2048 // no client's path is longer; the text is searched a few times
	if len(path) > longest {
		return ""
	}
	p := plainPath(path)
	switch {
	case strings.Contains(p, "/openai/deployments/"):
		return "this is Azure's path; use the client for OpenAI, not the one for Azure; "
	case strings.HasPrefix(p, "/v1beta/"), strings.Contains(p, ":generatecontent"),
		strings.Contains(p, ":streamgeneratecontent"):
		return "this is Gemini's own API; set the client to an OpenAI-compatible provider; "
	case strings.HasSuffix(p, "/messages"), strings.HasSuffix(p, "/messages/count_tokens"):
		return "this is Anthropic's own API; set the client to an OpenAI-compatible provider; "
	case p == "/responses", strings.HasSuffix(p, "/responses"), strings.Contains(p, "/responses/"):
		return "the Responses API is not served yet; set the client to Chat Completions; "
	case strings.HasPrefix(p, "/api/chat"), strings.HasPrefix(p, "/api/generate"), p == "/api/tags":
		return "this is Ollama's own API; set the client to an OpenAI-compatible provider; "
	}
	if meant := meantPath(p); meant != "" {
		return fmt.Sprintf("%s is probably meant (%s); ", meant, slip(path, p, meant))
	}
	return ""
}

// plainPath is a path in lower case, with single slashes and none at its end.
func plainPath(path string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(strings.ToLower(path), "/") {
		if part != "" {
			b.WriteString("/" + part)
		}
	}
	return b.String()
}

// meantPath is the served path that an unserved one ends like, empty if there is none.
func meantPath(p string) string {
	for _, route := range []request.Route{request.RouteChat, request.RouteCompletions, routeModels} {
		if strings.HasSuffix(p, strings.TrimPrefix(string(route), "/v1")) {
			return string(route)
		}
	}
	if _, id, ok := strings.Cut(p, "/models/"); ok && id != "" {
		return modelsPrefix + "{id}"
	}
	return ""
}

// slip says what is wrong with a path whose meaning is known.
func slip(path, p, meant string) string {
	endpoint := strings.TrimPrefix(meant, "/v1")
	switch {
	case p == meant && strings.HasSuffix(path, "/"):
		return "leave out the slash at the end"
	case p == meant:
		return "write it in lower case with single slashes"
	case strings.Count(p, endpoint) > 1, strings.HasSuffix(p, "/completions"+endpoint):
		return "the base URL ends before " + endpoint
	case strings.Contains(p, "/v1/v1/"):
		return "the path has /v1 twice: the client adds it to the base URL by itself"
	case !strings.Contains(p, "/v1/"):
		return "the base URL lacks /v1"
	}
	return "the base URL has more than /v1 in it"
}
