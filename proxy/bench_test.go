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
				r := sendBy(client, request(b, http.MethodPost, g.url+chatPath, strings.NewReader(chat(more)), "X-API-Key", key))
				if r.err != nil || r.status != http.StatusOK {
					b.Errorf("got %d %v", r.status, r.err)
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
