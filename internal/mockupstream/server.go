package mockupstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxBody is twice the gateway's default limit, so that the gateway's limit is the one that is met.
	maxBody = 64 << 20
	// growBody is how much of an announced body is reserved before it has arrived.
	growBody = 1 << 20
)

// Config is what a [Server] needs.
type Config struct {
	// Prices is the catalogue in the form of domain/pricing/prices.json.
	Prices []byte
	// Now tells the time at which requests are billed and priced.
	Now func() time.Time
	// Logger gets a line for each change of the settings; nil discards them.
	Logger *slog.Logger
	// Past is the journal of an earlier process, read by New; Journal is where each billed request is added. Both
	// may be nil.
	Past    io.Reader
	Journal io.Writer
}

// Server is the provider. All its methods are safe for concurrent use.
type Server struct {
	catalogue *catalogue
	now       func() time.Time
	log       *slog.Logger
	script    *script
	control   *control
	books     *books
	journal   io.Writer
	models    []byte // the answer of GET /v1/models
	served    atomic.Int64
}

// New reads the prices and returns a server that holds nothing and fails nothing. Its errors are [ErrPrices], a
// missing clock and a journal that cannot be read.
func New(cfg Config) (*Server, error) {
	c, err := readPrices(cfg.Prices)
	if err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		return nil, errors.New("start mock upstream: Config.Now is nil")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	models, err := modelList(c)
	if err != nil {
		return nil, err
	}
	s := &Server{
		catalogue: c, now: cfg.Now, log: cfg.Logger, script: newScript(),
		control: newControl(), books: newBooks(pageRecords, maxPages), journal: cfg.Journal, models: models,
	}
	if cfg.Past != nil {
		return s, s.recall(cfg.Past)
	}
	return s, nil
}

func modelList(c *catalogue) ([]byte, error) {
	type entry struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	entries := make([]entry, 0, len(c.names))
	for _, name := range c.names {
		entries = append(entries, entry{name, "model", 0, "mock-upstream"})
	}
	list, err := json.Marshal(map[string]any{"object": "list", "data": entries})
	if err != nil {
		return nil, fmt.Errorf("list models: %w", err)
	}
	return list, nil
}

// Handler serves the provider's endpoints, /bill and /control.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(s.serve)
}

// Bill sums what arrived in the span [since, until) by [Config.Now]; a zero time leaves that side open.
func (s *Server) Bill(since, until time.Time) Bill {
	return s.books.view().bill(s.catalogue.models, since, until)
}

// Change edits the settings in process, as POST /control does: as a whole or, when they become invalid, not at all.
// The error says which one is.
func (s *Server) Change(edit func(*Settings)) error {
	return s.control.change(func(settings *Settings) error {
		edit(settings)
		return nil
	})
}

// Held counts the requests whose answers wait for hold to end. All of them are on the bill.
func (s *Server) Held() int64 { return s.control.held() }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/chat/completions", "POST /chat/completions":
		s.complete(w, r, true)
	case "POST /v1/completions", "POST /completions":
		s.complete(w, r, false)
	case "GET /v1/models", "GET /models":
		s.listModels(w, r)
	case "GET /bill":
		s.showBill(w, r)
	case "GET /control":
		s.showControl(w)
	case "POST /control":
		s.changeControl(w, r)
	default:
		unknownURL(r).send(w)
	}
}

// complete answers a chat or legacy completion.
func (s *Server) complete(w http.ResponseWriter, r *http.Request, chat bool) {
	number := s.served.Add(1)
	w.Header().Set("X-Request-Id", fmt.Sprintf("req_mock%08d", number))
	m, q, keyID, err := s.accept(w, r, chat)
	if err != nil {
		refuse(w, err)
		return
	}
	if m.fails() {
		injected(m.ErrorStatus).send(w)
		return
	}
	at := s.now()
	replies, finish, completion := s.script.plan(q)
	nano, tier := q.model.cost(at, q.tier, q.promptTokens, completion)
	s.enter(at, keyID, q.model, nano)
	if !m.wait(r.Context()) {
		panic(http.ErrAbortHandler) // nobody shall take an empty body for an answer
	}
	a := &answer{
		id: fmt.Sprintf("chatcmpl-mock%08d", number), created: at.Unix(), model: q.answers(), tier: tier,
		chat: chat, tool: q.tool, replies: replies, finish: finish,
		usage: usageJSON(m.Usage, q.promptTokens, completion),
	}
	if !chat {
		a.id = fmt.Sprintf("cmpl-mock%08d", number)
		if q.tier == "" {
			a.tier = "" // the legacy endpoint knows no tiers
		}
	}
	a.usageChunk = q.includeUsage && a.usage != nil
	if q.stream {
		a.stream(r.Context(), w, m)
		return
	}
	a.send(r.Context(), w, m)
}

// accept reads everything that decides whether a request is served.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, chat bool) (*mode, *request, string, error) {
	key, ok := bearer(r)
	if !ok {
		return nil, nil, "", noKey()
	}
	m, err := s.control.modeFor(r.Header)
	if err != nil {
		return nil, nil, "", err
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, nil, "", err
	}
	q, err := s.catalogue.readRequest(chat, body)
	if err != nil {
		return nil, nil, "", err
	}
	return m, q, KeyID(key), nil
}

func bearer(r *http.Request) (string, bool) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	key = strings.TrimSpace(key)
	return key, strings.EqualFold(scheme, "Bearer") && key != ""
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(min(r.ContentLength, growBody)) + bytes.MinRead)
	}
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		message := fmt.Sprintf("The request body is larger than %d bytes.", tooLarge.Limit)
		return nil, &apiError{http.StatusRequestEntityTooLarge, message, typeInvalidRequest, "", ""}
	}
	if err != nil {
		return nil, badRequest("", "", "The request body ended early.")
	}
	return b.Bytes(), nil
}

// refuse answers with an error of ours.
func refuse(w http.ResponseWriter, err error) {
	var known *apiError
	if !errors.As(err, &known) {
		known = &apiError{http.StatusInternalServerError, err.Error(), typeServer, "", ""}
	}
	known.send(w)
}

func (s *Server) listModels(w http.ResponseWriter, r *http.Request) {
	if _, ok := bearer(r); !ok {
		noKey().send(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.models) // a failed write means that the client is gone
}

func (s *Server) showBill(w http.ResponseWriter, r *http.Request) {
	since, err := instant(r, "since")
	if err != nil {
		refuse(w, err)
		return
	}
	until, err := instant(r, "until")
	if err != nil {
		refuse(w, err)
		return
	}
	sendJSON(w, http.StatusOK, s.Bill(since, until))
}

// instant reads a query parameter in RFC 3339. A bare plus sign, which a URL turns into a space, is understood.
func instant(r *http.Request, name string) (time.Time, error) {
	text := strings.ReplaceAll(r.URL.Query().Get(name), " ", "+")
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, badRequest(name, codeInvalidValue, "Invalid '%s': expected an RFC 3339 time.", name)
	}
	return at, nil
}

func (s *Server) showControl(w http.ResponseWriter) {
	sendJSON(w, http.StatusOK, struct {
		Settings
		Held int64 `json:"held"`
	}{s.control.mode.Load().Settings, s.control.held()})
}

func (s *Server) changeControl(w http.ResponseWriter, r *http.Request) {
	if err := s.control.change(merge(r.Body)); err != nil && !errors.Is(err, io.EOF) {
		badRequest("", codeInvalidValue, "Invalid settings: %s", err).send(w)
		return
	}
	s.log.InfoContext(r.Context(), "mock upstream settings changed",
		slog.Any("settings", s.control.mode.Load().Settings))
	s.showControl(w)
}
