package proxy

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// incoming is an answer's body as it is, whatever its labels say. Nothing is read beyond what has arrived
// already: a look at the first bytes must not hold up the first event.
type incoming struct {
	*bufio.Reader
	// metered reports that the body can be read. Else its form is passed on as it is.
	metered bool
}

// peekSize holds the first network packet.
const peekSize = 16 << 10

// receive looks at the first bytes of an answer. A body that says it is compressed and is not is plain; one
// that is compressed by gzip is decoded, whether it says so or not. Other compressions, which we did not
// ask for, are passed on with their label, unmetered.
func receive(answer *http.Response, h http.Header) incoming {
	body := bufio.NewReaderSize(answer.Body, peekSize)
	label := strings.ToLower(answer.Header.Get("Content-Encoding"))
	first, _ := body.Peek(1) // what fails here fails in the reading, too
	plain := len(first) == 0 || textual(first[0])
	switch {
	case len(first) == 1 && first[0] == gzipFirst:
		if two, _ := body.Peek(2); len(two) == 2 && two[1] == gzipSecond {
			return incoming{bufio.NewReaderSize(&lazyGzip{source: body}, peekSize), true}
		}
	case label == "", label == "identity", plain:
		return incoming{body, true}
	}
	if label != "" {
		h.Set("Content-Encoding", answer.Header.Get("Content-Encoding"))
	}
	return incoming{body, false}
}

// The bytes that begin every gzip stream (RFC 1952, 2.3.1).
const gzipFirst, gzipSecond = 0x1f, 0x8b

// textual reports whether a byte begins JSON, an event stream or text.
func textual(b byte) bool {
	return b >= ' ' && b < 0x7f || b == '\n' || b == '\r' || b == '\t' || b == 0xef // of a byte order mark
}

// streams reports whether the body is an event stream: by its first byte where that decides, since streams
// come under other types and JSON under that of streams, else by its label.
func (in incoming) streams(label string) bool {
	first, err := in.Peek(1)
	if err != nil {
		return labelled(label)
	}
	switch first[0] {
	case '{', '[', '"', '<':
		return false
	case 'd', 'e', 'i', 'r', ':': // data, event, id, retry, and comments
		return true
	}
	return labelled(label)
}

// labelled reports whether a content type is that of event streams, also where its parameters are broken.
func labelled(kind string) bool {
	media, _, _ := strings.Cut(kind, ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/event-stream")
}

// lazyGzip reads the header with the first byte, so that an empty body is an end and no error up front.
type lazyGzip struct {
	source io.Reader
	reader *gzip.Reader
}

func (g *lazyGzip) Read(p []byte) (int, error) {
	if g.reader == nil {
		reader, err := gzip.NewReader(g.source)
		if err != nil {
			return 0, err
		}
		g.reader = reader
	}
	return g.reader.Read(p)
}
