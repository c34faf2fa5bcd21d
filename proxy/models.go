package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/budgetguard/budgetguard/proxy/request"
)

// routeModels is the list of models: free, answered here, and not forwarded. It is the label of both of
// its paths in the metrics, so that ids have no part in them.
const routeModels request.Route = "/v1/models"

// modelsPrefix is what the path of one model begins with; the id behind it may have slashes.
const modelsPrefix = string(routeModels) + "/"

// modelEntry is a model in OpenAI's form (API reference, Models).
type modelEntry struct {
	ID     string `json:"id"`
	Object string `json:"object"`
	// Created is always 0: clients want a number, and the catalogue does not know the day.
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type modelList struct {
	Object string       `json:"object"`
	Data   []modelEntry `json:"data"`
}

// registerModels adds the routes that list models.
func (s *Server) registerModels(e *echo.Echo) {
	for _, path := range []string{string(routeModels), modelsPrefix + "*"} {
		// Echo would answer the other methods of these paths itself.
		e.Any(path, s.unknown)
		e.RouteNotFound(path, s.unknown)

		for _, method := range []string{http.MethodGet, http.MethodHead} {
			e.Add(method, path, s.models)
		}
	}
}

// models answers what the caller's key may use: the whole list, or one entry.
func (s *Server) models(c echo.Context) error {
	w, r := c.Response(), c.Request()

	// Nothing names a model after a slash at the end, so that path is a misspelled one.
	if r.URL.Path == modelsPrefix {
		return s.unknown(c)
	}

	x := &exchange{s: s, w: w, r: r, route: routeModels, id: requestID(r), started: s.cfg.Now()}
	s.cross(w, r)
	s.boundBody(w, refusedBodyTimeout)
	w.Header().Set("X-Request-Id", x.id)
	defer x.recovered()

	body, err := x.listing()
	if err != nil {
		x.decided(x.refuse(err))
		return nil
	}

	x.decided("answered")
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store") // another key may use other models
	x.begin(http.StatusOK)
	_, _ = w.Write(append(body, '\n')) // the client may have gone; net/http drops the body of HEAD
	return nil
}

// listing is the body of the answer. Like every other request it needs a key and counts in the rate
// limit: with neither, a list of models would be a free way to try keys and to keep a gateway busy.
func (x *exchange) listing() ([]byte, error) {
	if err := x.authenticate(); err != nil {
		return nil, err
	}
	if err := x.limit(); err != nil {
		return nil, err
	}

	path := x.r.URL.Path
	if path == string(routeModels) {
		return json.Marshal(modelList{Object: "list", Data: x.usable()})
	}

	id := strings.TrimPrefix(path, modelsPrefix)
	if entry, ok := x.entry(id); ok {
		return json.Marshal(entry)
	}
	return nil, x.noModel(id)
}

// usable lists the models that a request of this caller could name, ids and aliases, sorted.
func (x *exchange) usable() []modelEntry {
	entries := []modelEntry{} // an empty list is [], which clients can range over
	for _, name := range x.s.Prices.Names() {
		if entry, ok := x.entry(name); ok {
			entries = append(entries, entry)
		}
	}
	return entries
}

// entry is a model of the list; false for what a request that names it would be refused for: a name the
// key may not use, one without a price at the tier that is assumed, a fee by call, no completions.
func (x *exchange) entry(name string) (modelEntry, bool) {
	m, ok := x.s.Prices.Model(name)
	if !ok || m.BillsByCall || m.MaxOutput <= 0 || !x.who.mayUse(name) {
		return modelEntry{}, false
	}
	if _, err := m.Rates(x.s.cfg.ServiceTier, 0, x.started); err != nil {
		return modelEntry{}, false
	}
	return modelEntry{ID: name, Object: "model", OwnedBy: m.Provider}, true
}

// noModel is the 404 that OpenAI gives for a model that does not exist or that the key may not use
// (its code and param are what clients know it by). Only names that the key may use are suggested.
func (x *exchange) noModel(id string) *problem {
	p := &problem{
		status: http.StatusNotFound, code: "model_not_found", message: "Model not found", param: "model",
		detail: fmt.Sprintf("the model %.100q does not exist here or the key may not use it; "+
			"GET /v1/models lists those it may", id),
	}
	for _, near := range x.s.Prices.Nearest(id, nearestNames) {
		if _, ok := x.entry(near); ok {
			p.nearest = append(p.nearest, near)
		}
	}
	return p
}
