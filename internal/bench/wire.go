package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	// maxHeaders bounds the header of an answer, so that a broken server ends the run and not the machine.
	maxHeaders = 100
	// answerWithin bounds one exchange.
	answerWithin = 30 * time.Second
	// readBuffer holds a whole answer, so that it costs one read.
	readBuffer = 16 << 10
)

var errAnswer = errors.New("malformed HTTP answer")

// conn is a client of one keep-alive HTTP/1.1 connection. It does the least that is correct, so that the load itself
// takes little of the processors that it shares with what it measures.
type conn struct {
	net  net.Conn
	read *bufio.Reader
}

func dial(ctx context.Context, address string) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &conn{net: c, read: bufio.NewReaderSize(c, readBuffer)}, nil
}

func (c *conn) close() { _ = c.net.Close() }

// exchange sends a request and reads the whole answer, the body into sink if there is one. It returns the status.
func (c *conn) exchange(request []byte, deadline time.Time, sink io.Writer) (int, error) {
	if err := c.net.SetDeadline(deadline); err != nil {
		return 0, err
	}
	if _, err := c.net.Write(request); err != nil {
		return 0, err
	}
	return readAnswer(c.read, sink)
}

// body is how an answer's body ends.
type body struct {
	chunked bool
	length  int64 // -1: not said
	last    bool  // the connection ends after it
}

// readAnswer reads one answer to its end. An answer whose end only the end of the connection would tell is an error:
// a cut one would look whole.
func readAnswer(r *bufio.Reader, sink io.Writer) (int, error) {
	status, err := readStatus(r)
	if err != nil {
		return 0, err
	}
	b, err := readHeader(r)
	if err != nil {
		return status, err
	}
	switch {
	case b.chunked:
		err = readChunks(r, sink)
	case b.length >= 0:
		err = consume(r, b.length, sink)
	default:
		err = fmt.Errorf("%w: no length", errAnswer)
	}
	if err == nil && b.last {
		err = io.EOF
	}
	return status, err
}

func readStatus(r *bufio.Reader) (int, error) {
	line, err := readLine(r)
	if err != nil {
		return 0, err
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("%w: %.40q", errAnswer, line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil || status < 200 || status > 599 {
		return 0, fmt.Errorf("%w: %.40q", errAnswer, line)
	}
	return status, nil
}

func readHeader(r *bufio.Reader) (body, error) {
	b := body{length: -1}
	for range maxHeaders {
		line, err := readLine(r)
		if err != nil {
			return b, err
		}
		if len(line) == 0 {
			return b, nil
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			return b, fmt.Errorf("%w: header line %.40q", errAnswer, line)
		}
		switch value = bytes.TrimSpace(value); {
		case equalFold(name, "content-length"):
			if b.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || b.length < 0 {
				return b, fmt.Errorf("%w: content-length %.40q", errAnswer, value)
			}
		case equalFold(name, "transfer-encoding"):
			b.chunked = equalFold(value, "chunked")
		case equalFold(name, "connection"):
			b.last = equalFold(value, "close")
		}
	}
	return b, fmt.Errorf("%w: more than %d header lines", errAnswer, maxHeaders)
}

func equalFold(got []byte, want string) bool {
	return len(got) == len(want) && strings.EqualFold(string(got), want)
}

func readChunks(r *bufio.Reader, sink io.Writer) error {
	for {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return fmt.Errorf("%w: chunk size %.40q", errAnswer, line)
		}
		if err := consume(r, int64(size), sink); err != nil {
			return err
		}
		if line, err = readLine(r); err != nil { // also ends the empty trailer
			return err
		}
		if len(line) != 0 {
			return fmt.Errorf("%w: %.40q after a chunk", errAnswer, line)
		}
		if size == 0 {
			return nil
		}
	}
}

// consume reads n bytes into sink, or away. An end before is io.ErrUnexpectedEOF.
func consume(r *bufio.Reader, n int64, sink io.Writer) error {
	if sink == nil {
		sink = io.Discard
	}
	for n > 0 {
		if r.Buffered() == 0 {
			if _, err := r.Peek(1); err != nil {
				return early(err)
			}
		}
		part, err := r.Peek(int(min(n, int64(r.Buffered()))))
		if err != nil {
			return early(err)
		}
		if _, err := sink.Write(part); err != nil {
			return err
		}
		if _, err := r.Discard(len(part)); err != nil {
			return early(err)
		}
		n -= int64(len(part))
	}
	return nil
}

func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readLine reads a line without its end. It is valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, early(err)
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// post writes a request of the provider's API.
func post(address, path, header, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%s\r\nContent-Length: %d\r\n\r\n%s",
		path, address, header, len(body), body)
}
