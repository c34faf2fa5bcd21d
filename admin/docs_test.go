package admin_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// The files of npm's swagger-ui-dist 5.35.0.
const (
	bundleSum = "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2"
	styleSum  = "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d"
)

func TestDocsIsAPageThatLoadsOnlyItsOwnFiles(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	page := s.must(http.StatusOK, "GET", "/docs", "", "X-Admin-Key", "")
	if media := page.header.Get("Content-Type"); media != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", media)
	}
	text := string(page.body)
	if inline := regexp.MustCompile(`<script>|<style|style=| on\w+=|https?:`).FindString(text); inline != "" {
		t.Errorf("the page has %q", inline)
	}
	links := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(text, -1)
	if len(links) != 6 {
		t.Fatalf("links %v", links)
	}
	for _, link := range links {
		got := s.send("GET", "/"+link[1], "", "X-Admin-Key", "")
		if got.status != http.StatusOK || got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("ETag") == "" {
			t.Errorf("%s: %d %v", link[1], got.status, got.header)
		}
	}
	for _, word := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(page.header.Get("Content-Security-Policy"), word) {
			t.Errorf("Content-Security-Policy lacks %s", word)
		}
	}
	if got := s.send("GET", "/docs/", ""); got.status != http.StatusFound || got.header.Get("Location") != "../docs" {
		t.Errorf("/docs/: %d to %q", got.status, got.header.Get("Location"))
	}
}

func TestSwaggerUIIsTheReleaseItSaysItIs(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	for path, want := range map[string]string{"/docs/swagger-ui-bundle.js": bundleSum, "/docs/swagger-ui.css": styleSum} {
		plain := s.send("GET", path, "")
		packed := s.send("GET", path, "", "Accept-Encoding", "br, gzip;q=0.9")
		if packed.header.Get("Content-Encoding") != "gzip" || plain.header.Get("Content-Encoding") != "" || plain.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %v, %v", path, packed.header, plain.header)
		}
		if refused := s.send("GET", path, "", "Accept-Encoding", "gzip;q=0"); refused.header.Get("Content-Encoding") != "" {
			t.Errorf("%s is packed for a client that refuses", path)
		}
		unpacked, err := gzip.NewReader(bytes.NewReader(packed.body))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(unpacked)
		if err != nil || !bytes.Equal(body, plain.body) {
			t.Errorf("%s differs by encoding: %v", path, err)
		}
		if sum := sha256.Sum256(plain.body); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has SHA-256 %x", path, sum)
		}
		again := s.send("GET", path, "", "If-None-Match", plain.header.Get("ETag"))
		if again.status != http.StatusNotModified || len(again.body) != 0 {
			t.Errorf("%s again: %d", path, again.status)
		}
	}
}

func TestTheDocumentIsServedToAnybody(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	got := s.must(http.StatusOK, "GET", "/openapi.json", "", "X-Admin-Key", "")
	if !bytes.Contains(got.body, []byte(`"openapi": "3.1.0"`)) || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v %.80s", got.header, got.body)
	}
	if head := s.send("HEAD", "/openapi.json", ""); head.status != http.StatusOK || len(head.body) != 0 {
		t.Errorf("HEAD: %d, %d bytes", head.status, len(head.body))
	}
}
