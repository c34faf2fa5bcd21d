package proxy_test

import (
	"net/http"
	"strings"
	"testing"
)

// BenchmarkServe is the whole way of a request, the client and the mock included, with and without company
// on the tenant's stream.
func BenchmarkServe(b *testing.B) {
	for name, more := range map[string]string{"whole": `"max_tokens":20,`, "streamed": `"max_tokens":20,"stream":true,`} {
		b.Run(name, func(b *testing.B) {
			g := start(b, setup{})
			key := g.tenant("acme", "1000000")
			call := func(client *http.Client) {
				answer, err := client.Do(request(b, http.MethodPost, g.url+chatPath, strings.NewReader(chat(more)), "X-API-Key", key))
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := readAll(answer); err != nil || answer.StatusCode != http.StatusOK {
					b.Errorf("got %d %v", answer.StatusCode, err)
				}
			}
			transport := &http.Transport{MaxIdleConnsPerHost: 64}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			call(client)
			b.Run("alone", func(b *testing.B) {
				for b.Loop() {
					call(client)
				}
			})
			b.Run("32 clients", func(b *testing.B) {
				b.SetParallelism(16)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						call(client)
					}
				})
			})
		})
	}
}
