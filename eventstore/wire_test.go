package eventstore_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// what a wire does to a message it was told to look for.
type harm int

const (
	cutBefore harm = iota // the connection breaks and Postgres never sees the message
	cutAfter              // Postgres answers, and the connection breaks before the client hears it
	delay                 // the client's connection breaks; Postgres gets the message when it is let go
)

// wire is a TCP proxy in front of Postgres that understands enough of the protocol to break it at the
// worst moment: at the call of ledger_append, or at a commit.
type wire struct {
	tb       testing.TB
	listener net.Listener
	target   string
	done     sync.WaitGroup

	mu    sync.Mutex
	armed *snare
	pairs map[*pair]struct{}
	// harmful, if set, is asked for each append and commit what to do to it.
	harmful func() (harm, bool)
}

// snare waits for one message.
type snare struct {
	match  string // "append" or "commit"
	harm   harm
	sprung chan struct{} // closed when the message came
	letGo  chan struct{} // closed by the test: a delayed message goes on to Postgres
	landed chan struct{} // closed when Postgres has answered it, or hung up
}

// newWire stretches a wire to the database at address and returns it with the address to use instead.
func newWire(tb testing.TB, address string) (*wire, string) {
	tb.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tb.Fatal(err)
	}
	w := &wire{tb: tb, target: u.Host, pairs: map[*pair]struct{}{}}
	if w.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		tb.Fatal(err)
	}
	w.done.Go(w.accept)
	tb.Cleanup(w.close)
	u.Host = w.listener.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	return w, u.String()
}

func (w *wire) close() {
	_ = w.listener.Close()
	w.mu.Lock()
	for p := range w.pairs {
		p.cut()
	}
	w.mu.Unlock()
	w.done.Wait()
}

// arm lays a snare for the next append or commit.
func (w *wire) arm(match string, h harm) *snare {
	s := &snare{match: match, harm: h, sprung: make(chan struct{}), letGo: make(chan struct{}), landed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = s
	return s
}

// springs returns the snare that a message springs, if any.
func (w *wire) springs(match string) *snare {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.harmful != nil {
		if h, yes := w.harmful(); yes {
			s := &snare{harm: h, sprung: make(chan struct{}), letGo: make(chan struct{}), landed: make(chan struct{})}
			close(s.letGo)
			return s
		}
	}
	s := w.armed
	if s == nil || s.match != match {
		return nil
	}
	w.armed = nil
	return s
}

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p := &pair{wire: w, client: client, server: server, appends: map[string]bool{}}
		w.mu.Lock()
		w.pairs[p] = struct{}{}
		w.mu.Unlock()
		w.done.Go(p.up)
		w.done.Go(p.down)
	}
}

// pair is one connection through the wire.
type pair struct {
	wire           *wire
	client, server net.Conn
	appends        map[string]bool // prepared statements that call ledger_append

	mu    sync.Mutex
	snare *snare // what the answer belongs to
}

func (p *pair) cut() {
	_ = p.client.Close()
	_ = p.server.Close()
}

func (p *pair) held() *snare {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snare
}

// up carries what the client says.
func (p *pair) up() {
	defer func() {
		if p.held() == nil {
			p.cut()
		}
	}()
	var size [4]byte
	if _, err := io.ReadFull(p.client, size[:]); err != nil {
		return
	}
	first := make([]byte, binary.BigEndian.Uint32(size[:])-4)
	if _, err := io.ReadFull(p.client, first); err != nil {
		return
	}
	if _, err := p.server.Write(append(size[:], first...)); err != nil {
		return
	}
	for {
		message, err := readMessage(p.client)
		if err != nil {
			return
		}
		if s := p.look(message); s != nil {
			p.spring(s, message)
			return
		}
		if _, err := p.server.Write(message); err != nil {
			return
		}
	}
}

// look tells whether a message springs a snare.
func (p *pair) look(message []byte) *snare {
	kind, body := message[0], message[5:]
	switch kind {
	case 'P':
		name, query, _ := strings.Cut(string(body), "\x00")
		p.appends[name] = strings.Contains(query, "ledger_append")
	case 'B':
		_, rest, _ := bytes.Cut(body, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		if p.appends[string(name)] {
			return p.wire.springs("append")
		}
	case 'Q':
		if string(body) == "commit\x00" {
			return p.wire.springs("commit")
		}
	}
	return nil
}

// spring does the harm. The message is followed by others up to the one that asks for an answer.
func (p *pair) spring(s *snare, message []byte) {
	whole := message
	for message[0] != 'Q' && message[0] != 'S' {
		var err error
		if message, err = readMessage(p.client); err != nil {
			break
		}
		whole = append(whole, message...)
	}
	if s.harm == cutBefore {
		p.cut()
		close(s.landed)
		close(s.sprung)
		return
	}
	p.mu.Lock()
	p.snare = s
	p.mu.Unlock()
	if s.harm == delay {
		_ = p.client.Close()
		close(s.sprung)
		<-s.letGo
	}
	_, _ = p.server.Write(whole)
	if s.harm == cutAfter {
		close(s.sprung)
	}
}

// down carries what Postgres says, until it is not to be heard any more.
func (p *pair) down() {
	defer p.cut()
	defer func() {
		if s := p.held(); s != nil {
			close(s.landed)
		}
	}()
	for {
		message, err := readMessage(p.server)
		if err != nil {
			return
		}
		if p.held() != nil {
			if message[0] == 'Z' { // ready again: the statement is over
				return
			}
			continue
		}
		if _, err := p.client.Write(message); err != nil && p.held() == nil {
			return
		}
	}
}

func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	message := make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
	copy(message, head)
	_, err := io.ReadFull(r, message[5:])
	return message, err
}
