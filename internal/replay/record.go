package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// record is one recorded exchange, as far as it matters here.
type record struct {
	ID       string            `json:"id"`
	Endpoint string            `json:"endpoint"`
	URL      string            `json:"url"`
	Request  string            `json:"request_body"`
	Status   int               `json:"status"`
	Headers  map[string]string `json:"response_headers"`
	Response string            `json:"response_body"`
	Stream   bool              `json:"stream"`
	Usage    json.RawMessage   `json:"usage"`
	Asked    string            `json:"model_requested"`
	Answered string            `json:"model_answered"`
	Tier     string            `json:"service_tier"`
}

// path is the route the exchange is played at, empty for an endpoint that is not served.
func (r record) path() string {
	switch r.Endpoint {
	case "chat.completions":
		return "/v1/chat/completions"
	case "completions":
		return "/v1/completions"
	}
	return ""
}

// headers are those that the answer is played with: what was recorded but for what belongs to
// the connection or to a compression that the record has undone, and a content type where none
// was kept.
func (r record) headers() map[string]string {
	played := map[string]string{"Content-Type": "application/json"}
	if r.Stream {
		played["Content-Type"] = "text/event-stream"
	}
	for name, value := range r.Headers {
		switch name = http.CanonicalHeaderKey(name); name {
		case "Content-Encoding", "Content-Length", "Transfer-Encoding",
			"Connection", "Trailer", "Date":
		default:
			played[name] = value
		}
	}
	return played
}

const longestLine = 256 << 20

// readFile reads the records of a file.
func readFile(path string) ([]record, error) {
	file, err := os.Open(path) //nolint:gosec // the caller names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	return readRecords(file)
}

func readRecords(from io.Reader) ([]record, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 1<<20), longestLine)
	var records []record
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if r.ID == "" {
			r.ID = fmt.Sprint("line-", n)
		}
		records = append(records, r)
	}
	return records, lines.Err()
}
