package mockupstream

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Types and codes of OpenAI's errors that are used more than once.
const (
	typeInvalidRequest = "invalid_request_error"
	typeServer         = "server_error"
	codeInvalidType    = "invalid_type"
	codeInvalidValue   = "invalid_value"
)

// apiError is an answer in OpenAI's error form. An empty param or code is written as null.
type apiError struct {
	status  int
	message string
	kind    string
	param   string
	code    string
}

func (e *apiError) Error() string { return e.message }

type errorJSON struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	} `json:"error"`
}

func (e *apiError) body() errorJSON {
	var body errorJSON
	body.Error.Message = e.message
	body.Error.Type = e.kind
	if e.param != "" {
		body.Error.Param = &e.param
	}
	if e.code != "" {
		body.Error.Code = &e.code
	}
	return body
}

func (e *apiError) send(w http.ResponseWriter) {
	if e.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	sendJSON(w, e.status, e.body())
}

// sendJSON writes one JSON document. A failed write means that the client is gone, which needs no answer.
func sendJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func badRequest(param, code, format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, fmt.Sprintf(format, args...), typeInvalidRequest, param, code}
}

func unknownURL(r *http.Request) *apiError {
	message := fmt.Sprintf("Invalid URL (%s %s)", r.Method, r.URL.Path)
	return &apiError{http.StatusNotFound, message, typeInvalidRequest, "", ""}
}

func noKey() *apiError {
	message := "You didn't provide an API key. You need to provide your API key in an Authorization header using " +
		"Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
	return &apiError{http.StatusUnauthorized, message, typeInvalidRequest, "", "invalid_api_key"}
}

func unknownModel(name string) *apiError {
	message := fmt.Sprintf("The model `%s` does not exist or you do not have access to it.", name)
	return &apiError{http.StatusNotFound, message, typeInvalidRequest, "", "model_not_found"}
}

// injected is the error of an injected failure, in the words and types OpenAI uses for that status.
func injected(status int) *apiError {
	switch {
	case status == http.StatusTooManyRequests:
		return &apiError{status, "Rate limit reached (injected by mock-upstream).", "requests", "", "rate_limit_exceeded"}
	case status == http.StatusUnauthorized:
		message := "Incorrect API key provided (injected by mock-upstream)."
		return &apiError{status, message, typeInvalidRequest, "", "invalid_api_key"}
	case status >= http.StatusInternalServerError:
		message := "The server had an error while processing your request (injected by mock-upstream)."
		return &apiError{status, message, typeServer, "", ""}
	default:
		return &apiError{status, "The request was refused (injected by mock-upstream).", typeInvalidRequest, "", ""}
	}
}
