package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/internal/testenv"
)

// A client that leaves while the ledger works must not ring the alarm for a dead database, and one that
// only closed its side hears so.
func TestAClientThatLeavesIsNoDeadLedger(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	g := start(t, setup{books: leftBehind, database: url})
	key := g.tenant("acme", "100")
	g.chat(key, "").want(t, http.StatusOK)
	locker, err := pgx.Connect(t.Context(), url)
	check(t, err)
	t.Cleanup(func() { _ = locker.Close(context.WithoutCancel(t.Context())) })
	lock, err := locker.Begin(t.Context())
	check(t, err)
	_, err = lock.Exec(t.Context(), `lock table event in access exclusive mode`)
	check(t, err)

	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(g.url, "http://"))
	check(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, raw("HTTP/1.1", key, "", chat(""), len(chat(""))))
	check(t, err)
	half, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("a %T", conn)
	}
	check(t, half.CloseWrite())
	check(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	check(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	check(t, err)
	if answer.StatusCode != 499 || !strings.Contains(string(text), "client_closed_request") {
		t.Errorf("got %d %s", answer.StatusCode, text)
	}
	check(t, lock.Rollback(t.Context()))
	if log := g.log.String(); strings.Contains(log, "ledger_unavailable") {
		t.Errorf("the log says that the ledger is away:\n%s", log)
	}
}
