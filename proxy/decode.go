package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// incoming is an answer's body as it is, whatever its labels say. Nothing is read beyond what has
// arrived already: a look at the first bytes must not hold up the first event.
type incoming struct {
	*bufio.Reader
	source *relay
	// coding is the compression by the label, empty for none; label is how it is spelled.
	coding, label string
	// metered reports that the body can be read. Else its form is passed on as it is. Set by open.
	metered bool
}

// peekSize holds the first network packet.
const peekSize = 16 << 10

// receive prepares the reading of an answer. It reads nothing.
func receive(answer *http.Response) *incoming {
	source := &relay{from: answer.Body}
	label := answer.Header.Get("Content-Encoding")
	coding := strings.ToLower(strings.TrimSpace(label))
	if coding == "identity" {
		coding = ""
	}
	return &incoming{
		Reader: bufio.NewReaderSize(source, peekSize), source: source, coding: coding, label: label,
	}
}

// open looks at the first bytes. A body that says it is compressed and is not is plain; one that is
// compressed by gzip is decoded, whether it says so or not. Other compressions, which we did not
// ask for, are passed on with their label, unmetered.
func (in *incoming) open(h http.Header) {
	first, _ := in.Peek(1) // what fails here fails in the reading, too
	if len(first) == 1 && first[0] == gzipFirst {
		if two, _ := in.Peek(2); len(two) == 2 && two[1] == gzipSecond {
			in.Reader = bufio.NewReaderSize(&lazyGzip{source: in.Reader}, peekSize)
			in.metered = true
			return
		}
	}

	in.metered = in.coding == "" || in.plain()
	if !in.metered {
		h.Set("Content-Encoding", in.label)
	}
}

// The bytes that begin every gzip stream (RFC 1952, 2.3.1).
const gzipFirst, gzipSecond = 0x1f, 0x8b

// plain reports whether what has arrived is text. One byte does not decide: zstd begins with a
// parenthesis (RFC 8878, 3.1.1), zlib with the letter x (RFC 1950, 2.2), and brotli with any byte
// (RFC 7932, 9.1).
func (in *incoming) plain() bool {
	const longestMagic = 4 // of zstd
	_, _ = in.Peek(longestMagic)
	arrived, _ := in.Peek(in.Buffered())
	for len(arrived) > 0 {
		r, size := utf8.DecodeRune(arrived)
		if r == utf8.RuneError && size == 1 {
			return !utf8.FullRune(arrived) // the rest of the letter is on its way
		}
		if unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' {
			return false
		}
		arrived = arrived[size:]
	}
	return true
}

// byteOrderMark may stand in front of an event stream (WHATWG HTML, 9.2.5).
const byteOrderMark = "\ufeff"

// streams reports whether the body is an event stream: by its first byte where that decides, since streams
// come under other types and JSON under that of streams, else by its label.
func (in *incoming) streams(label string) bool {
	first, _ := in.Peek(1)
	if len(first) == 1 && first[0] == byteOrderMark[0] {
		first, _ = in.Peek(len(byteOrderMark) + 1)
		first = bytes.TrimPrefix(first, []byte(byteOrderMark))
	}
	if len(first) == 0 {
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
