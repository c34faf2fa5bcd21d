package main

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"
)

// flow is what a valve does with a connection from the message on that it was told to look for.
type flow int

const (
	// swallow keeps the message, and all after it, from the server.
	swallow flow = iota
	// pass lets the message through and swallows what comes after it.
	pass
	// mute lets everything through, and keeps the server's answers from the client.
	mute
)

// valve is a relay in front of Postgres that closes at one message: the first that holds a text.
type valve struct {
	listener net.Listener
	target   string
	done     sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	marker []byte
	flow   flow
	came   chan struct{}
}

// newValve puts a valve in front of a database and returns the setting that leads a process through it.
func newValve(t *testing.T, database string) (v *valve, setting string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	v = &valve{target: u.Host}
	if v.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	v.done.Go(v.accept)
	t.Cleanup(func() {
		_ = v.listener.Close()
		v.cut()
		v.done.Wait()
	})
	u.Host = v.listener.Addr().String()
	return v, "DATABASE_URL=" + u.String()
}

// at arms the valve for the next message that holds the text. The channel is closed when it has come.
func (v *valve) at(text string, f flow) (came <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.marker, v.flow, v.came = []byte(text), f, make(chan struct{})
	return v.came
}

// cut ends every connection.
func (v *valve) cut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.conns {
		_ = c.Close()
	}
	v.conns = nil
}

func (v *valve) accept() {
	for {
		client, err := v.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", v.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		v.mu.Lock()
		v.conns = append(v.conns, client, server)
		v.mu.Unlock()
		p := &pipe{valve: v, client: client, server: server}
		v.done.Go(p.up)
		v.done.Go(p.down)
	}
}

// meets tells whether the armed text is in what was just read, and disarms.
func (v *valve) meets(read []byte) (flow, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.marker == nil || !bytes.Contains(read, v.marker) {
		return 0, false
	}
	v.marker = nil
	close(v.came)
	return v.flow, true
}

// pipe is one connection.
type pipe struct {
	valve          *valve
	client, server net.Conn

	mu    sync.Mutex
	muted bool
}

func (p *pipe) up() {
	defer func() { _ = p.server.Close() }()
	const overlap = 128 // longer than any text a test looks for
	var last []byte
	closed := false
	buffer := make([]byte, 64<<10)
	for {
		n, err := p.client.Read(buffer)
		if err != nil {
			return
		}
		if closed {
			continue
		}
		f, met := p.valve.meets(append(last, buffer[:n]...))
		last = bytes.Clone(buffer[max(0, n-overlap):n])
		if met {
			closed = f != mute
			p.mu.Lock()
			p.muted = true // whatever the server says from now on is about what the client must not know
			p.mu.Unlock()
			if f == swallow {
				continue
			}
		}
		if _, err := p.server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *pipe) down() {
	defer func() { _ = p.client.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := p.server.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		muted := p.muted
		p.mu.Unlock()
		if muted {
			continue
		}
		if _, err := p.client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
