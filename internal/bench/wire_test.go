package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestAnswersAreReadToTheirEnds(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		answer string
		status int
		body   string
		err    error
	}{
		"length":            {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", nil},
		"lower case":        {"HTTP/1.1 402 Payment Required\r\ncontent-length:2\r\n\r\n{}", 402, "{}", nil},
		"no body":           {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, "", nil},
		"chunks":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", 200, "abc0123456789", nil},
		"last one":          {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 200, "x", io.EOF},
		"cut body":          {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", 200, "he", io.ErrUnexpectedEOF},
		"cut chunk":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", 200, "ab", io.ErrUnexpectedEOF},
		"no last chunk":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", 200, "a", io.ErrUnexpectedEOF},
		"no length":         {"HTTP/1.1 200 OK\r\n\r\nhello", 200, "", errAnswer},
		"negative length":   {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 200, "", errAnswer},
		"no chunk size":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 200, "", errAnswer},
		"chunk too long":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 200, "a", errAnswer},
		"endless header":    {"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxHeaders+1) + "\r\n", 200, "", errAnswer},
		"other protocol":    {"SSH-2.0-OpenSSH_9.2\r\n", 0, "", errAnswer},
		"nothing":           {"", 0, "", io.ErrUnexpectedEOF},
		"interim responses": {"HTTP/1.1 100 Continue\r\n\r\n", 0, "", errAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var body bytes.Buffer
			status, err := readAnswer(bufio.NewReaderSize(strings.NewReader(one.answer), readBuffer), &body)
			if status != one.status || body.String() != one.body || !errors.Is(err, one.err) || (err != nil) != (one.err != nil) {
				t.Errorf("got %d %q %v; want %d %q %v", status, body.String(), err, one.status, one.body, one.err)
			}
		})
	}
}

func TestTheNextAnswerBeginsWhereTheLastEnded(t *testing.T) {
	t.Parallel()
	one := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
	r := bufio.NewReader(strings.NewReader(one + one))
	for range 2 {
		if status, err := readAnswer(r, nil); status != 200 || err != nil {
			t.Fatalf("got %d, %v", status, err)
		}
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("something is left: %v", err)
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\nContent-Length: 9223372036854775807\n\nx"))
	f.Add([]byte("HTTP/1.1 2"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		var body bytes.Buffer
		status, err := readAnswer(bufio.NewReaderSize(bytes.NewReader(answer), readBuffer), &body)
		if err == nil && (status < 200 || status > 599) {
			t.Errorf("status %d is no status of an answer", status)
		}
		if body.Len() > len(answer) {
			t.Errorf("%d bytes of body from %d of answer", body.Len(), len(answer))
		}
	})
}
