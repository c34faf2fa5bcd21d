package sse_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/budgetguard/budgetguard/proxy/sse"
)

// event is an Event that owns its bytes; nil and empty Data differ.
type event struct {
	raw, data, name string
	hasData, whole  bool
}

// read gives all events of a source, and the error that ended it if that is not io.EOF.
func read(src io.Reader) ([]event, error) {
	return readAll(sse.NewReader(src))
}

func readAll(r *sse.Reader) ([]event, error) {
	var all []event
	for {
		ev, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, event{string(ev.Raw), string(ev.Data), string(ev.Name), ev.Data != nil, ev.Complete})
	}
}

func Example() {
	stream := strings.NewReader("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n" +
		"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\n" +
		"data: {\"choices\":[],\"model\":\"gpt-4o\",\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n")
	reader, meter := sse.NewReader(stream), new(sse.Meter)
	forwarded := 0
	for {
		ev, err := reader.Next()
		if err != nil {
			break
		}
		if ev.Data != nil && meter.Add(ev.Data).UsageOnly() {
			continue // the client did not ask for it
		}
		forwarded++
	}
	usage := meter.Reports()[0].Readings()[0]
	fmt.Println(forwarded, meter.Model(), usage.Prompt, usage.Completion, meter.Texts())
	// Output: 3 gpt-4o 9 2 [Hello]
}

func TestEventsAreCutAtBlankLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stream string
		want   []event
	}{
		{"", nil},
		{"data: a\n\ndata: b\n\n", []event{{"data: a\n\n", "a", "", true, true}, {"data: b\n\n", "b", "", true, true}}},
		{"data: a\r\n\r\ndata: b\r\n\r\n", []event{{"data: a\r\n\r\n", "a", "", true, true}, {"data: b\r\n\r\n", "b", "", true, true}}},
		{"data: a\r\rdata: b\r\r", []event{{"data: a\r\r", "a", "", true, true}, {"data: b\r\r", "b", "", true, true}}},
		{"data:a\n\n", []event{{"data:a\n\n", "a", "", true, true}}},
		{"data:  a\n\n", []event{{"data:  a\n\n", " a", "", true, true}}},
		{"data: a\ndata:\ndata: b\n\n", []event{{"data: a\ndata:\ndata: b\n\n", "a\n\nb", "", true, true}}},
		{"data\n\n", []event{{"data\n\n", "", "", true, true}}},
		{"event: error\ndata: x\nid: 1\nretry: 5\n\n", []event{{"event: error\ndata: x\nid: 1\nretry: 5\n\n", "x", "error", true, true}}},
		{": ping\ndata: a\n\n", []event{{": ping\n", "", "", false, true}, {"data: a\n\n", "a", "", true, true}}},
		{": ping\n\ndata: a\n: in\n\n", []event{{": ping\n", "", "", false, true}, {"\n", "", "", false, true}, {"data: a\n: in\n\n", "a", "", true, true}}},
		{"data: a\n\ndata: b", []event{{"data: a\n\n", "a", "", true, true}, {"data: b", "b", "", true, false}}},
		{"data: a\n", []event{{"data: a\n", "a", "", true, false}}},
		{"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", []event{{"\xef\xbb\xbfdata: a\n\n", "a", "", true, true}, {"\xef\xbb\xbfdata: b\n\n", "", "", false, true}}},
		{"data: a\r\r\ndata: b\n\n", []event{{"data: a\r\r", "a", "", true, true}, {"\ndata: b\n\n", "b", "", true, true}}},
		{"data: \xf0\x9f\x98\x80\xff\n\n", []event{{"data: \xf0\x9f\x98\x80\xff\n\n", "\xf0\x9f\x98\x80\xff", "", true, true}}},
	} {
		for name, src := range map[string]io.Reader{
			"at once": strings.NewReader(c.stream), "by byte": iotest.OneByteReader(strings.NewReader(c.stream)),
			"by half": iotest.HalfReader(strings.NewReader(c.stream)), "with EOF": iotest.DataErrReader(strings.NewReader(c.stream)),
		} {
			got, err := read(src)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q read %s:\n got %+v, %v\nwant %+v", c.stream, name, got, err, c.want)
			}
		}
	}
}

func TestAnEventIsGivenOutBeforeTheNextOneArrives(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"data: a\n\n", "data: a\r\n\r\n", "data: a\r\r", ": ping\n"} {
		src, provider := io.Pipe()
		go func() { _, _ = provider.Write([]byte(stream)) }()
		ev, err := sse.NewReader(src).Next() // the pipe stays open: waiting for more would block for ever
		if err != nil || string(ev.Raw) != stream || !ev.Complete {
			t.Errorf("%q: %q, %v", stream, ev.Raw, err)
		}
	}
}

func TestWhatWasReadBeforeAnErrorIsGivenOut(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	r := sse.NewReader(io.MultiReader(strings.NewReader("data: a\n\ndata: {\"us"), iotest.ErrReader(broken)))
	got, err := readAll(r)
	want := []event{{"data: a\n\n", "a", "", true, true}, {`data: {"us`, `{"us`, "", true, false}}
	if !errors.Is(err, broken) || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("the error does not stay: %v", err)
	}
}

func TestEventsUpToTheLimitAreReadAndLargerOnesAreAnError(t *testing.T) {
	t.Parallel()
	large := "data: " + strings.Repeat("x", sse.EventMax-10) + "\n\n"
	got, err := read(strings.NewReader("data: a\n\n" + large + "data: b\n\n"))
	if err != nil || len(got) != 3 || got[1].raw != large || got[2].data != "b" {
		t.Errorf("%d events, %v", len(got), err)
	}
	endless := strings.Repeat("x", sse.EventMax+100_000)
	src := strings.NewReader("data: a\n\ndata: " + endless)
	got, err = read(src)
	if !errors.Is(err, sse.ErrTooLong) || len(got) != 2 || got[1].whole {
		t.Fatalf("%d events, %v", len(got), err)
	}
	rest, _ := io.ReadAll(src)
	if got[1].raw+string(rest) != "data: "+endless {
		t.Error("bytes are lost behind an event that is too long")
	}
}

func TestASourceThatGivesNothingIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := read(silent{}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestAResetReaderIsAsNew(t *testing.T) {
	t.Parallel()
	r := sse.NewReader(strings.NewReader("data: " + strings.Repeat("x", 1<<20) + "\ndata: y\r\rdata: rest"))
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	r.Reset(strings.NewReader("\xef\xbb\xbfdata: b\n\n"))
	got, err := readAll(r)
	if err != nil || len(got) != 1 || got[0].data != "b" {
		t.Errorf("%+v, %v", got, err)
	}
}

// chunked gives its bytes in reads of the sizes in cuts, over and over.
type chunked struct {
	rest, cuts []byte
	n          int
}

func (c *chunked) Read(to []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	size := 1
	if len(c.cuts) > 0 {
		size += int(c.cuts[c.n%len(c.cuts)])
		c.n++
	}
	n := copy(to[:min(size, len(to))], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("data: a\n\ndata: b\r\n\r\n: c\n\nevent: x\rdata\r\rdata: [DONE]"), []byte{0, 3, 9})
	f.Add([]byte("\xef\xbb\xbfdata:\r\r\n\n\r\r\r\n:"), []byte{})
	f.Add([]byte("data: a\n\r\ndata: b\r\n\n\r"), []byte{1})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		whole, err := read(bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		var raw strings.Builder
		for i, ev := range whole {
			raw.WriteString(ev.raw)
			if ev.raw == "" || !ev.whole && i < len(whole)-1 {
				t.Fatalf("event %d of %d: %+v", i, len(whole), ev)
			}
		}
		if raw.String() != string(stream) {
			t.Fatalf("the raw bytes are %q, not %q", raw.String(), stream)
		}
		parts, err := read(&chunked{rest: stream, cuts: cuts})
		if err != nil || !slices.Equal(parts, whole) {
			t.Fatalf("in pieces %+v, %v, at once %+v", parts, err, whole)
		}
	})
}
