package provider

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// End is what the end of a call proves about its bill.
type End int

// The ends. Unproven may have been billed, in full; PromptBilled was read and not answered.
const (
	Unproven End = iota
	NotBilled
	PromptBilled
)

// Ended is what a status that is no success proves, with the body that came with it, empty where that
// could not be read. The provider's own word counts more than that of what stands between: a gateway
// that gives up does not know what runs behind it.
//
// Each rule names its source.
func (n Name) Ended(status int, body []byte) End {
	said := readError(body)
	switch {
	case status == http.StatusBadRequest && said.filtered():
		// Azure charges what it evaluated, "even if the status code isn't successful", for instance a 400
		// of the content filter (Microsoft Learn, Azure OpenAI, plan to manage costs). No other provider
		// is known to send the code.
		return PromptBilled
	case status == http.StatusBadRequest && n == Azure && !said.own:
		return PromptBilled // a 400 that cannot be read may be the filter's: the dearer of the two
	case timedOut(status) || said.timedOut():
		return Unproven // what ran into its time may have run
	}
	if byStatus(status) {
		return NotBilled
	}
	if status >= http.StatusInternalServerError && said.own {
		// An error object of the provider's own, with whatever 5xx: it failed by itself, as with 500 and
		// 503. OpenAI and Anthropic bill no failed requests (OpenAI help center, API errors; Anthropic API
		// errors).
		return NotBilled
	}
	return Unproven
}

// timedOut are the statuses of a time-out: what was asked may still be generated.
func timedOut(status int) bool {
	switch status {
	case http.StatusRequestTimeout, // RFC 9110, 15.5.9
		499,                       // nginx: the client, which is us or a proxy, closed the request
		http.StatusGatewayTimeout, // RFC 9110, 15.6.5
		522, 524:                  // Cloudflare 5xx errors: connection and answer timed out
		return true
	}
	return false
}

// byStatus reports whether a status proves by itself that nothing was generated.
func byStatus(status int) bool {
	switch {
	case status >= http.StatusMultipleChoices && status < http.StatusBadRequest:
		return true // RFC 9110, 15.4: the answer is elsewhere, and no redirect is followed
	case status >= http.StatusBadRequest && status < http.StatusInternalServerError:
		return true // RFC 9110, 15.5: the request was refused; time-outs are told apart above
	}
	switch status {
	case http.StatusInternalServerError, http.StatusServiceUnavailable, // OpenAI and Anthropic, API errors
		http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, // RFC 9110, 15.6.2 and 15.6.6
		http.StatusNetworkAuthenticationRequired, // RFC 6585, 6: a network in between wants a login
		521, 523, 525, 526, 530,                  // Cloudflare 5xx errors: the origin was not reached, or not spoken to
		529: // Anthropic, API errors: overloaded
		return true
	}
	return false
}

// providerError is what an error body says, as far as it is understood.
type providerError struct {
	// own reports an error object in the form of OpenAI, Anthropic or Google.
	own        bool
	code, kind string
}

// readError reads {"error":{"message","type","code"}}, also within a list, as Google sends it. A body
// that is something else, such as a proxy's page, is no provider's own word.
func readError(body []byte) providerError {
	const longest = 1 << 20
	if len(body) == 0 || len(body) > longest {
		return providerError{}
	}
	type document struct {
		Error *struct {
			Message *string         `json:"message"`
			Type    json.RawMessage `json:"type"`
			Code    json.RawMessage `json:"code"`
			Status  json.RawMessage `json:"status"`
		} `json:"error"`
	}
	var d document
	if json.Unmarshal(body, &d) != nil {
		var list []document
		if json.Unmarshal(body, &list) != nil || len(list) == 0 {
			return providerError{}
		}
		d = list[0]
	}
	if d.Error == nil || d.Error.Message == nil {
		return providerError{}
	}
	word := func(raw json.RawMessage) string { return strings.ToLower(strings.Trim(string(raw), `"`)) }
	return providerError{own: true, code: word(d.Error.Code), kind: word(d.Error.Type) + " " + word(d.Error.Status)}
}

// filtered reports Azure's refusal of a prompt by its content filter.
func (e providerError) filtered() bool { return e.code == "content_filter" }

// timedOut reports an error that is a time-out by its name, whatever its status: Anthropic's
// timeout_error, Google's DEADLINE_EXCEEDED. Or by its code, where that is a status: OpenRouter's
// is (errors and debugging), and LiteLLM writes 408 there (pull request 3279).
func (e providerError) timedOut() bool {
	if code, err := strconv.Atoi(e.code); err == nil && timedOut(code) {
		return true
	}
	for _, word := range [...]string{"timeout", "timedout", "timed_out", "time-out", "deadline"} {
		if strings.Contains(e.code, word) || strings.Contains(e.kind, word) {
			return true
		}
	}
	return false
}

// TakesStreamOptions reports whether stream_options may be added to a request: Mistral refuses fields that
// it does not know, and reports the usage of a stream without being asked (Mistral API reference; 422 in
// recorded traffic).
func (n Name) TakesStreamOptions() bool { return n != Mistral }
