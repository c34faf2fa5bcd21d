package mockupstream

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// object is a JSON object read case-exactly, as OpenAI reads it: Go's structs would take "Model" for "model". Of
// duplicate keys the last one counts. null is the same as absent.
type object map[string]json.RawMessage

// maxExactFloat is the largest integer up to which a float64 names each integer.
const maxExactFloat = 1 << 53

func readObject(body []byte) (object, error) {
	var o object
	if !utf8.Valid(body) || json.Unmarshal(body, &o) != nil || o == nil {
		return nil, badRequest("", "", "We could not parse the JSON body of your request. "+
			"(The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)")
	}
	return o, nil
}

func (o object) has(name string) bool {
	raw, present := o[name]
	return present && string(raw) != "null"
}

// into decodes a field; an absent one leaves the target as it is.
func (o object) into(name, want string, target any) error {
	if !o.has(name) {
		return nil
	}
	if err := json.Unmarshal(o[name], target); err != nil {
		return badRequest(name, codeInvalidType, "Invalid type for '%s': expected %s.", name, want)
	}
	return nil
}

func (o object) text(name string) (string, error) {
	var s string
	err := o.into(name, "a string", &s)
	return s, err
}

func (o object) flag(name string) (bool, error) {
	var b bool
	err := o.into(name, "a boolean", &b)
	return b, err
}

// integer reads a whole number of any notation (100, 1e2, 100.0) between least and most.
func (o object) integer(name string, least, most, absent int64) (int64, error) {
	if !o.has(name) {
		return absent, nil
	}
	n, ok := wholeNumber(string(o[name]))
	if !ok {
		return 0, badRequest(name, codeInvalidType, "Invalid type for '%s': expected an integer.", name)
	}
	if n < least || n > most {
		return 0, badRequest(name, codeInvalidValue, "Invalid '%s': expected a value between %d and %d.", name, least, most)
	}
	return n, nil
}

func wholeNumber(raw string) (int64, bool) {
	if n, err := strconv.ParseInt(raw, 10, 64); err == nil {
		return n, true
	}
	if strings.HasPrefix(raw, `"`) {
		return 0, false
	}
	f, err := strconv.ParseFloat(raw, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxExactFloat {
		return 0, false
	}
	return int64(f), true
}
