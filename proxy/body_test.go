package proxy_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/proxy"
)

// upload begins a body and leaves it one byte short of its end.
func upload(t *testing.T, address, key string, size int) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "http://"))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, raw("HTTP/1.1", key, "", strings.Repeat(" ", size-1), size)) // it may be refused
	return conn
}

func TestBodiesAreBoundedTogetherAndOneTenantTakesHalf(t *testing.T) {
	t.Parallel()
	const megabyte = 1 << 20
	g := start(t, setup{config: func(c *proxy.Config) {
		c.MaxBody = megabyte
		c.MaxInFlight = 16 * megabyte // a body counts three times: two of a tenant, four in all
	}})
	greedy, other := g.tenant("greedy", "100"), g.tenant("other", "100")

	var uploads []net.Conn
	for range 24 {
		uploads = append(uploads, upload(t, g.url, greedy, megabyte))
	}
	body := chat(`"user":"` + strings.Repeat("x", megabyte/2) + `",`)
	eventually(t, "a full share is refused", func() bool {
		r := post(t, g.url+chatPath, body, "X-API-Key", greedy)
		return r.status == http.StatusServiceUnavailable && r.code() == "overloaded" && r.header.Get("Retry-After") == "1"
	})
	g.nothingForwarded()
	post(t, g.url+chatPath, chat(""), "X-API-Key", other).want(t, 200)

	for _, conn := range uploads {
		_ = conn.Close()
	}
	eventually(t, "the room comes back", func() bool {
		return post(t, g.url+chatPath, chat(""), "X-API-Key", greedy).status == http.StatusOK
	})
}

func TestAnAnnouncedLengthThatNeverComesTakesNoRoom(t *testing.T) {
	t.Parallel()
	const megabyte = 1 << 20
	g := start(t, setup{config: func(c *proxy.Config) {
		c.MaxBody = megabyte
		c.MaxInFlight = 3*megabyte + 3
	}})
	key := g.tenant("acme", "100")
	var all sync.WaitGroup
	for range 20 {
		idle, err := (&net.Dialer{Timeout: time.Minute}).DialContext(t.Context(), "tcp", strings.TrimPrefix(g.url, "http://"))
		check(t, err)
		t.Cleanup(func() { _ = idle.Close() })
		_, err = io.WriteString(idle, raw("HTTP/1.1", key, "", "", megabyte))
		check(t, err)
	}
	for range 20 {
		all.Go(func() { post(t, g.url+chatPath, chat(""), "X-API-Key", key).want(t, 200) })
	}
	all.Wait()
}
