package sse_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/sse"
)

const chunk = `{"id":"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx","object":"chat.completion.chunk","created":1790000000,"model":"gpt-4o-2024-08-06",` +
	`"service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" budget"},"logprobs":null,"finish_reason":null}],` +
	`"usage":null,"obfuscation":"q8Kj2"}`

// BenchmarkReader reads streams of 1000 chunks with one Reader, in reads of 4 KiB.
func BenchmarkReader(b *testing.B) {
	stream := []byte(strings.Repeat("data: "+chunk+"\n\n", 1000))
	src := bytes.NewReader(stream)
	r := sse.NewReader(src)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(stream)
		r.Reset(src)
		for {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				break
			}
		}
	}
}

// BenchmarkMeter reads one chat chunk.
func BenchmarkMeter(b *testing.B) {
	data := []byte(chunk)
	m := new(sse.Meter)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if c := m.Add(data); c.Deltas != 1 {
			b.Fatal("no text")
		}
	}
}
