package mockupstream_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func BenchmarkCompletion(b *testing.B) {
	handler := startProvider(b).Handler()
	for name, body := range map[string]string{"plain": hello, "stream": chatOf("gpt-3.5-turbo", 9, `,"stream":true`)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/chat/completions", strings.NewReader(body))
					r.Header.Set("Authorization", "Bearer sk-bench")
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, r)
					if w.Code != http.StatusOK {
						b.Fatalf("status %d", w.Code)
					}
				}
			})
		})
	}
}
