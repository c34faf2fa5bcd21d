package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// serveWith starts a gateway with a limit of open files.
func (s *system) serveWith(files int) (*process, string) {
	s.t.Helper()
	script := "ulimit -n " + strconv.Itoa(files) + ` && exec "$0" "$@"`
	p := startCommand(s.t, exec.Command("/bin/sh", "-c", script, os.Args[0], "serve"), s.env)
	line := p.line(s.t, "serves http://")
	return p, line[strings.Index(line, "http://"):]
}

// squat opens a connection, sends a text and leaves it. It is closed at the end of the test.
func squat(t *testing.T, address, text string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, text) // the gateway may have closed it by now
	return conn
}

// nuisances are requests that are never finished, by what is missing.
func nuisances() map[string]string {
	const host = "Host: x\r\n"
	return map[string]string{
		"everything":             "",
		"the headers' end":       "GET /health HTTP/1.1\r\n" + host + "X-A: ",
		"the body of a refusal":  "POST /admin/tenant HTTP/1.1\r\n" + host + "Content-Length: 100\r\n\r\n",
		"a body nobody wants":    "GET /health HTTP/1.1\r\n" + host + "Content-Length: 9\r\n\r\n",
		"a chunk":                "POST /nowhere HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
		"the body of no tenant":  "POST /v1/chat/completions HTTP/1.1\r\n" + host + "Content-Length: 100\r\n\r\n",
		"the reading of answers": strings.Repeat("GET /openapi.json HTTP/1.1\r\n"+host+"\r\n", 50),
	}
}

func files(t *testing.T, p *process) int {
	t.Helper()
	open, err := os.ReadDir("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

func TestSocketsThatOnlyStandThereDoNotStopPayingCalls(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	p, address := s.serveWith(512)
	key := s.tenant(address, "acme", "100")
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = true }); err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for range 20 { // these are under way while the crowd comes
		calls.Go(func() {
			if a := ask(t.Context(), t, address, key, chat); a.status != http.StatusOK {
				t.Errorf("a call under way: %d %s", a.status, a.body)
			}
		})
	}
	eventually(t, "20 at the provider", func() bool { return s.provider.Held() == 20 })

	for _, text := range nuisances() {
		for range 100 {
			squat(t, address, text)
		}
	}
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = false }); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
	for range 20 {
		if a := ask(t.Context(), t, address, key, chat); a.status != http.StatusOK {
			t.Errorf("a call afterwards: %d %s", a.status, a.body)
		}
	}
	if n := files(t, p); n > 512-ownDescriptors/2 {
		t.Errorf("%d of 512 descriptors are in use", n)
	}
}

// endsWithin reads a connection to its end.
func endsWithin(t *testing.T, conn net.Conn, most time.Duration) (string, bool) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(most)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	netError, ok := err.(net.Error) //nolint:errorlint // the reader returns it as it is
	return string(text), !ok || !netError.Timeout()
}

func TestWhatIsNeverFinishedIsEnded(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, address := s.serve()
	var all sync.WaitGroup
	for missing, text := range nuisances() {
		if text == "" || missing == "the reading of answers" {
			continue // idle connections are kept for two minutes, answers for one
		}
		conn := squat(t, address, text)
		all.Go(func() {
			answer, ended := endsWithin(t, conn, readTimeout+30*time.Second)
			if !ended {
				t.Errorf("without %s the connection is still open; it got %q", missing, answer)
			}
		})
	}
	all.Wait()
}

func TestARefusalIsHeardThoughItsBodyNeverComes(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, address := s.serve()
	conn := squat(t, address, nuisances()["the body of no tenant"])
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %d", answer.StatusCode)
	}
}

func TestRoomIsLeftForWhatIsNoClient(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{0: 16, 128: 16, 512: 208, 1024: 464, 1 << 20: maxConnections} {
		if got := roomFor(limit); got != want {
			t.Errorf("of %d descriptors %d are for clients, want %d", limit, got, want)
		}
	}
	if n := descriptors(); n < 256 || n > maxDescriptors {
		t.Errorf("%d descriptors", n)
	}
}
