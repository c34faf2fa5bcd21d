package admin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// ui is Swagger UI 5.35.0 (Apache-2.0; ui/LICENSE, ui/NOTICE), the files of npm's swagger-ui-dist packed
// by gzip, and a page and an initializer of our own: the original page has its script inline, which
// the policy below forbids.
//
//go:embed ui openapi.json
var ui embed.FS

// contentSecurityPolicy lets the page load nothing, run nothing and tell nothing to anybody but its own
// server. Swagger UI draws its icons from data: URLs. It renders Markdown through DOMPurify into innerHTML,
// so Trusted Types cannot be demanded of it; the only Markdown is that of our own document.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"font-src 'self'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

// docs are the files of /docs by their URL path.
type docs struct{ files map[string]file }

// file is an asset as it is embedded and as a client without gzip gets it.
type file struct {
	contentType   string
	packed, plain []byte // packed is nil for what is too small to pack
	tag           string
}

func newDocs() (*docs, error) {
	d := &docs{files: map[string]file{}}
	for url, name := range map[string]string{
		"/docs":                            "ui/index.html",
		"/docs/page.css":                   "ui/page.css",
		"/docs/initializer.js":             "ui/initializer.js",
		"/docs/favicon.png":                "ui/favicon.png",
		"/docs/swagger-ui.css":             "ui/swagger-ui.css.gz",
		"/docs/swagger-ui-bundle.js":       "ui/swagger-ui-bundle.js.gz",
		"/docs/LICENSE":                    "ui/LICENSE",
		"/docs/NOTICE":                     "ui/NOTICE",
		"/docs/swagger-ui-bundle.licenses": "ui/swagger-ui-bundle.js.LICENSE.txt",
		"/openapi.json":                    "openapi.json",
	} {
		f, err := open(name)
		if err != nil {
			return nil, fmt.Errorf("read embedded %s: %w", name, err)
		}
		d.files[url] = f
	}
	return d, nil
}

func open(name string) (file, error) {
	data, err := ui.ReadFile(name)
	if err != nil {
		return file{}, err
	}
	sum := sha256.Sum256(data)
	f := file{plain: data, tag: hex.EncodeToString(sum[:8]), contentType: contentTypeOf(strings.TrimSuffix(name, ".gz"))}
	if !strings.HasSuffix(name, ".gz") {
		return f, nil
	}
	f.packed = data
	reader, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return file{}, err
	}
	f.plain, err = io.ReadAll(reader)
	return f, err
}

// contentTypeOf does not ask the machine's mime.types: the answer is the same everywhere.
func contentTypeOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".png":
		return "image/png"
	case ".json":
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

// registerDocs serves the page and its files. They are as public as the source is, so no key is asked.
func (s *Server) registerDocs(e *echo.Echo) {
	for url, f := range s.docs.files {
		e.Match([]string{http.MethodGet, http.MethodHead}, url, f.serve, RequestID)
	}
	e.GET("/docs/", func(c echo.Context) error { return c.Redirect(http.StatusFound, "../docs") }, RequestID)
}

func (f file) serve(c echo.Context) error {
	header := c.Response().Header()
	harden(header)
	header.Set(echo.HeaderContentType, f.contentType)
	header.Set(echo.HeaderCacheControl, "no-cache") // keep it, and ask whether it is still the same
	data, tag := f.plain, f.tag
	if f.packed != nil {
		header.Set(echo.HeaderVary, echo.HeaderAcceptEncoding)
		if acceptsGzip(c.Request().Header) {
			header.Set(echo.HeaderContentEncoding, "gzip")
			data, tag = f.packed, f.tag+"-gz"
		}
	}
	header.Set("ETag", `"`+tag+`"`)
	http.ServeContent(c.Response(), c.Request(), "", time.Time{}, bytes.NewReader(data))
	return nil
}

// acceptsGzip reads Accept-Encoding as far as browsers and tools use it: gzip;q=0 is a no.
func acceptsGzip(h http.Header) bool {
	for _, part := range strings.Split(h.Get(echo.HeaderAcceptEncoding), ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			return strings.Trim(strings.TrimSpace(weight), "q=0.") != "" || weight == ""
		}
	}
	return false
}

func harden(h http.Header) {
	h.Set(echo.HeaderContentSecurityPolicy, contentSecurityPolicy)
	h.Set(echo.HeaderXContentTypeOptions, "nosniff")
	h.Set(echo.HeaderReferrerPolicy, "no-referrer")
	h.Set(echo.HeaderXFrameOptions, "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}
