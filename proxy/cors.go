package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// AnyOrigin lets pages of every origin read the answers.
const AnyOrigin = "*"

// ParseOrigins reads a comma list of origins whose pages may call the gateway from a browser, or "*".
// An origin is a scheme and a host, as browsers send it (RFC 6454, 6.2): in lower case, without the
// port that the scheme has anyway. Empty is none. The error says how to write what is wrong.
func ParseOrigins(text string) ([]string, error) {
	var origins []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		origin, err := parseOrigin(part)
		if err != nil {
			return nil, err
		}
		origins = append(origins, origin)
	}

	// Beside the star the others would mean nothing, and one of the two is a mistake.
	if len(origins) > 1 && slices.Contains(origins, AnyOrigin) {
		return nil, fmt.Errorf("%q allows every origin; leave it out or leave the others out", AnyOrigin)
	}
	return origins, nil
}

func parseOrigin(text string) (string, error) {
	if text == AnyOrigin {
		return text, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || !ascii(text) {
		return "", fmt.Errorf("%q is no origin; write scheme://host or scheme://host:port, such as "+
			"https://app.example.com, or * for all", text)
	}
	if u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#") {
		return "", fmt.Errorf("%q has more than scheme, host and port; write %s://%s", text, u.Scheme, u.Host)
	}
	if strings.Contains(u.Host, "*") {
		return "", fmt.Errorf("%q has a star inside; name each origin, or write * for all", text)
	}

	// Browsers leave out the port that a scheme has anyway.
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host, nil
}

// ascii reports whether text has only printable ASCII: browsers send international names as punycode.
func ascii(text string) bool {
	return strings.IndexFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
}

// exposed are the headers of answers that a page may read beside the few that every page may.
const exposed = "X-Request-Id, X-Upstream-Request-Id, " +
	"X-BudgetGuard-Reservation, X-BudgetGuard-Estimated-Usd, X-BudgetGuard-Remaining-Usd, " +
	"X-BudgetGuard-Cost-Usd, X-BudgetGuard-Max-Tokens, X-BudgetGuard-Upstream-Refused, " +
	"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, " +
	"X-RateLimit-Limit-Requests, X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Requests, " +
	"X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Requests, X-RateLimit-Reset-Tokens, " +
	"Retry-After, Retry-After-Ms, X-Should-Retry, Server-Timing, OpenAI-Processing-Ms, OpenAI-Version"

// cross says in the answer which pages may read it. The key is in a header that the page itself sets, so
// credentials of the browser (cookies) are never allowed.
func (s *Server) cross(w http.ResponseWriter, r *http.Request) {
	if len(s.cfg.Origins) == 0 {
		return
	}
	h := w.Header()
	origin := r.Header.Get("Origin")
	if slices.Contains(s.cfg.Origins, AnyOrigin) {
		if origin == "" {
			return
		}
		origin = AnyOrigin
	} else {
		h.Add("Vary", "Origin") // a cache must not give one page's answer to another's
		if !slices.Contains(s.cfg.Origins, origin) {
			return
		}
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", exposed)
}

// preflight answers the question that a browser asks before a page's request (Fetch, CORS-preflight
// request), and reports whether the request was one. It needs no key: the browser sends none.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	if w.Header().Get("Access-Control-Allow-Origin") == "" {
		return false // another origin's, or no setting: refused as any other OPTIONS
	}
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST")
	if names := allowedHeaders(r.Header.Get("Access-Control-Request-Headers")); names != "" {
		h.Set("Access-Control-Allow-Headers", names)
	}
	h.Set("Access-Control-Max-Age", "600") // ten minutes: a changed setting is seen soon
	w.WriteHeader(http.StatusNoContent)
	return true
}

// allowedHeaders are those of the asked headers that a page may send. They are named one by one, since
// no list can have "x-stainless-*", and since a star does not cover Authorization.
func allowedHeaders(asked string) string {
	const most = 64 // an SDK sends some fifteen
	var names []string
	for name := range strings.SplitSeq(strings.ToLower(asked), ",") {
		name = strings.TrimSpace(name)
		if allowedHeader(name) && len(names) < most {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

func allowedHeader(name string) bool {
	switch name {
	case "authorization", "content-type", "accept", "x-api-key", "x-tenant-id", "x-openai-key",
		"idempotency-key", "x-request-id", "user-agent", "http-referer", "x-title",
		"traceparent", "tracestate", "baggage", "api-key", "anthropic-version":
		return true
	}
	for _, prefix := range []string{"openai-", "x-stainless-", "x-budgetguard-"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest != "" && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
		}
	}
	return false
}
