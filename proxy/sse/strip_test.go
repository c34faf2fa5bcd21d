package sse_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/sse"
)

func TestTheNullUsageIsCutAndEveryOtherByteStays(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"data: {\"a\":1,\"usage\":null}\n\n":                  "data: {\"a\":1}\n\n",
		"data:{\"usage\":null,\"a\":1}\r\n\r\n":               "data:{\"a\":1}\r\n\r\n",
		"data: {\"a\" : 1 , \"usage\" : null , \"b\": 2}\n\n": "data: {\"a\" : 1 , \"b\": 2}\n\n",
		"data: {\"usage\":null}\n\n":                          "data: {}\n\n",
		// What is not exactly that is not touched.
		"data: {\"usage\":{\"prompt_tokens\":1}}\n\n": "",
		"data: {\"choices\":[{\"usage\":null}]}\n\n":  "",
		"data: {\"a\":\"\\\"usage\\\":null\"}\n\n":    "",
		"data: {\"usage\":null,\"usage\":null}\n\n":   "",
		"data: {\"usage\":null,\"a\":tru}\n\n":        "",
		"data: {\"usage\":null}{}\n\n":                "",
		"event: x\ndata: {\"usage\":null}\n\n":        "",
		"data: {\"a\":1,\ndata: \"usage\":null}\n\n":  "",
		": ping\n\n": "", "data: [DONE]\n\n": "", "": "",
	} {
		if want == "" {
			want = raw
		}
		if got := sse.StripNullUsage([]byte(raw)); string(got) != want {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
	}
}

func FuzzStripNullUsage(f *testing.F) {
	f.Add([]byte(`{"a":1,"usage":null,"b":[{}]}`))
	f.Add([]byte(`{ "usage" : null , "b":2 }`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !unambiguous(data) || bytes.ContainsAny(data, "\r\n") {
			return
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(data, &before) != nil || before == nil {
			return
		}
		cut := sse.StripNullUsage(append([]byte("data: "), data...))
		if err := json.Unmarshal(cut[len("data: "):], &after); err != nil {
			t.Fatalf("%q is no JSON: %v", cut, err)
		}

		// Exactly that member is gone, and no value is another.
		if string(before["usage"]) == "null" {
			delete(before, "usage")
		}
		if len(before) != len(after) {
			t.Fatalf("%q became %q", data, cut)
		}
		for name, value := range before {
			if !bytes.Equal(value, after[name]) {
				t.Fatalf("%q became %q", data, cut)
			}
		}
	})
}
