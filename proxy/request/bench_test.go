package request_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
)

// hostile are bodies made to be slow, each about so many bytes; 50 MB are a million names.
func hostile(size int) map[string]string {
	var keys strings.Builder
	for i := range size / 50 {
		fmt.Fprintf(&keys, `"k%d":0,`, i)
	}
	repeat := func(s string) string { return strings.Repeat(s, size/len(s)) }
	return map[string]string{
		"one object":      `{"model":"m","messages":[],"thinking":{` + keys.String() + `"z":0}}`,
		"top-level names": `{"model":"m","messages":[],` + keys.String() + `"z":0}`,
		"small objects":   `{"model":"m","messages":[],"thinking":[` + repeat(`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9},`) + `0]}`,
		"one string":      `{"model":"m","messages":[{"content":"` + repeat(`a`) + `"}]}`,
		"escapes":         `{"model":"m","messages":[{"content":"` + repeat(`\u00e9`) + `"}]}`,
		"messages":        `{"model":"m","messages":[` + repeat(`{"role":"user","content":"a"},`) + `{}]}`,
		"deep":            `{"model":"m","messages":[],"a":[` + repeat(strings.Repeat(`[`, 120)+strings.Repeat(`]`, 120)+`,`) + `0]}`,
		"a long number":   `{"model":"m","messages":[],"max_tokens":1` + repeat(`0`) + `e-` + strconv.Itoa(size) + `}`,
		"tokens":          `{"model":"m","messages":[],"prompt":[` + repeat(`1,`) + `1]}`,
		"unclosed":        repeat(`[`),
	}
}

func BenchmarkParse(b *testing.B) {
	bodies := hostile(50_000_000)
	bodies["typical"] = `{"model":"gpt-4o","stream":true,"messages":[{"role":"system","content":"You are terse."},{"role":"user","content":"` +
		strings.Repeat(`The quick brown fox.\n`, 100) + `"}],"temperature":0.2,"max_tokens":256}`
	for name, body := range bodies {
		b.Run(name, func(b *testing.B) {
			raw := []byte(body)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = request.Parse(request.RouteChat, raw)
			}
		})
	}
}

func TestHostileBodiesAreReadToTheEnd(t *testing.T) {
	t.Parallel()
	for name, body := range hostile(2_000_000) {
		_, err := request.Parse(request.RouteChat, []byte(body))
		if refused := name == "unclosed"; (err != nil) != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
