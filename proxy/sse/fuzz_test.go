package sse_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/sse"
)

func FuzzChunk(f *testing.F) {
	for _, seed := range []string{
		`{"id":"c","choices":[{"index":0,"delta":{"content":"h\u00e9\ud83d\ude00"}}],"model":"m","usage":null}`,
		`{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":20,"prompt_tokens_details":{"cached_tokens":4}},"service_tier":"flex"}`,
		`{"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}],"x_groq":{"usage":{"total_tokens":1e1}}}`,
		`{"error":{"message":"x"}}`, `[DONE]`, `{"usage":{"prompt_tokens":-1,"completion_tokens":1e400}}`, `{"a":"\`, `{"choices":[{"text":"a"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := new(sse.Meter)
		c := m.Add(data)
		u, told := largest(m)
		parts := []int64{u.Cached, u.CacheWrite, u.CacheWriteLong, u.AudioPrompt, u.Reasoning, u.AudioAnswer, u.Prompt, u.Completion}
		if slices.Min(parts) < 0 || u.Cached+u.CacheWrite+u.AudioPrompt > u.Prompt ||
			u.Reasoning > u.Completion || u.AudioAnswer > u.Completion || told && c.Malformed {
			t.Fatalf("usage %+v", u)
		}
		var fields map[string]json.RawMessage
		if !unambiguous(data) || json.Unmarshal(data, &fields) != nil || fields == nil {
			return
		}
		wantSameView(t, m, c, fields)
	})
}

// wantSameView compares with encoding/json's view of a well-formed event.
func wantSameView(t *testing.T, m *sse.Meter, c sse.Chunk, fields map[string]json.RawMessage) {
	t.Helper()
	if c.Malformed {
		t.Fatal("well-formed, but not followed")
	}
	var model string
	if json.Unmarshal(fields["model"], &model) == nil && len(model) <= 256 && model != m.Model() {
		t.Fatalf("model %q, want %q", m.Model(), model)
	}
	var choices []json.RawMessage
	if json.Unmarshal(fields["choices"], &choices) == nil && c.Choices != len(choices) {
		t.Fatalf("%d choices, want %d", c.Choices, len(choices))
	}
	if failed := fields["error"] != nil && string(fields["error"]) != "null"; failed != c.Failed {
		t.Fatalf("failed %t", c.Failed)
	}
	var usage map[string]any
	if json.Unmarshal(fields["usage"], &usage) != nil {
		return
	}
	prompt, isNumber := usage["prompt_tokens"].(float64)
	if u, ok := largest(m); ok && isNumber && float64(u.Prompt) < prompt {
		t.Fatalf("prompt %d, want at least %v", u.Prompt, prompt)
	}
	if isNumber && !c.Usage {
		t.Fatal("usage was not seen")
	}
}

// unambiguous tells that data is one JSON value without an object that has two equal names: readers differ about those.
func unambiguous(data []byte) bool {
	if !json.Valid(data) {
		return false
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	var names []map[string]bool // of the open values; nil for an array
	wantName := false
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			return false
		}
		name, isString := token.(string)
		switch {
		case token == json.Delim('{'):
			names, wantName = append(names, map[string]bool{}), true
			continue
		case token == json.Delim('['):
			names, wantName = append(names, nil), false
			continue
		case token == json.Delim('}'), token == json.Delim(']'):
			names = names[:len(names)-1]
		case wantName && isString:
			open := names[len(names)-1]
			if open[name] {
				return false
			}
			open[name], wantName = true, false
			continue
		}
		wantName = len(names) > 0 && names[len(names)-1] != nil
	}
}
