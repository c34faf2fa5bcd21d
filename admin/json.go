package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

const (
	// maxBody is far above any body of this API: sixteen budgets take 2 KiB.
	maxBody = 1 << 20
	// maxDepth is far above any body of this API, which nests four deep, and keeps the reader's stack small.
	maxDepth = 16
)

// bodyRule says whether a route takes a body.
type bodyRule int

const (
	noBody       bodyRule = iota
	optionalBody          // nothing is as good as {}
	neededBody
)

// readBody is the body of a request as a JSON object. Everything that two JSON readers could understand
// differently is refused: a member named twice, text that is not UTF-8, anything after the document.
func readBody(r *http.Request, rule bodyRule) (map[string]any, error) {
	if rule == noBody {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, invalidRequest("The body could not be read to its end.")
	}
	if len(data) > maxBody {
		return nil, &problem{code: codeTooLarge, detail: fmt.Sprintf("A body has at most %d bytes.", maxBody)}
	}
	if len(data) == 0 && rule == optionalBody {
		return map[string]any{}, nil
	}
	if err := checkMediaType(r.Header); err != nil {
		return nil, err
	}
	document, err := parseJSON(data)
	if err != nil {
		return nil, invalidRequest("The body is not acceptable JSON: " + err.Error() + ".")
	}
	members, ok := document.(map[string]any)
	if !ok {
		return nil, invalidRequest("The body must be a JSON object.")
	}
	return members, nil
}

func checkMediaType(h http.Header) error {
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, named := params["charset"]
	if err != nil || media != "application/json" || (named && !strings.EqualFold(charset, "utf-8")) {
		return &problem{code: codeMediaType, detail: "Send Content-Type: application/json, in UTF-8."}
	}
	if encoding := h.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return &problem{code: codeMediaType, detail: "Send the body without Content-Encoding."}
	}
	return nil
}

// parseJSON reads one document. Numbers stay text (json.Number): no float comes near money.
func parseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		return nil, syntax(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.UseNumber()
	return parseValue(decoder, 0)
}

func syntax(err error) error {
	var at *json.SyntaxError
	if errors.As(err, &at) {
		return fmt.Errorf("%s at byte %d", at.Error(), at.Offset)
	}
	return err
}

func parseValue(decoder *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it nests deeper than %d", maxDepth)
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return parseObject(decoder, depth)
	case json.Delim('['):
		return parseList(decoder, depth)
	}
	return token, nil
}

func parseObject(decoder *json.Decoder, depth int) (any, error) {
	members := map[string]any{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, errors.New("a member has no name")
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%.80q is there twice", name)
		}
		if members[name], err = parseValue(decoder, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := decoder.Token()
	return members, err
}

func parseList(decoder *json.Decoder, depth int) (any, error) {
	list := []any{}
	for decoder.More() {
		element, err := parseValue(decoder, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	_, err := decoder.Token()
	return list, err
}
