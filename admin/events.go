package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// A page of events is at most about half a megabyte.
	defaultEvents = 100
	maxEvents     = 500
)

// eventView is an event as the stream publishes it: a CloudEvents 1.0 document
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md). Data is the stored body.
type eventView struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Time        time.Time       `json:"time"`
	ContentType string          `json:"datacontenttype"`
	Subject     string          `json:"subject,omitempty"`
	Sequence    string          `json:"sequence"`
	Data        json.RawMessage `json:"data"`
}

// listEvents pages by version. Next is the after of the page that follows, also at the end: a consumer
// that closes a gap goes on there later.
func (s *Server) listEvents(ctx context.Context, c *call) (answer, error) {
	after := c.query.whole("after", 0, 0, math.MaxInt64-1)
	limit := c.query.whole("limit", defaultEvents, 1, maxEvents)
	if err := c.query.problem(); err != nil {
		return answer{}, err
	}
	events, err := s.deps.Reader.Events(ctx, c.tenant, after, int(limit))
	if err != nil {
		return answer{}, reading("events of "+string(c.tenant), err)
	}
	page := struct {
		Events []eventView `json:"events"`
		Next   int64       `json:"next"`
	}{Events: make([]eventView, 0, len(events)), Next: after}
	for i := range events {
		page.Events = append(page.Events, viewEvent(&events[i]))
		page.Next = events[i].Version
	}
	return ok(page), nil
}

func viewEvent(r *domain.Recorded) eventView {
	version := strconv.FormatInt(r.Version, 10)
	return eventView{
		SpecVersion: "1.0",
		ID:          string(r.Tenant) + ":" + version,
		Source:      "/tenants/" + string(r.Tenant),
		Type:        fmt.Sprintf("budgetguard.%s.v%d", domain.TypeOf(r.Event), domain.SchemaVersion),
		Time:        r.Time.UTC(),
		ContentType: "application/json",
		Subject:     subjectOf(r.Body),
		Sequence:    version,
		Data:        r.Body,
	}
}

// subjectOf is the id of what an event is about. It is the first field of the body in every event that
// has one, because bodies are written in the order of their types.
func subjectOf(body []byte) string {
	for _, field := range [...]string{`{"reservationId":"`, `{"apiKeyId":"`, `{"budgetId":"`} {
		rest, ok := bytes.CutPrefix(body, []byte(field))
		if !ok {
			continue
		}
		if value, _, ok := bytes.Cut(rest, []byte(`"`)); ok && bytes.IndexByte(value, '\\') < 0 {
			return string(value)
		}
	}
	return ""
}

// projectionView is a projection's lag in JSON. The numbers mean nothing where it could not be measured.
type projectionView struct {
	Name       string  `json:"name"`
	Measured   bool    `json:"measured"`
	Events     int64   `json:"eventsBehind"`
	Tenants    int64   `json:"tenantsBehind"`
	AgeSeconds float64 `json:"ageSeconds"`
}

func (s *Server) listProjections(ctx context.Context, _ *call) (answer, error) {
	lags, err := s.deps.Projections(ctx)
	if err != nil {
		return answer{}, reading("projections", err)
	}
	views := make([]projectionView, 0, len(lags))
	for _, l := range lags {
		if l.Err != nil {
			s.deps.Log.WarnContext(ctx, "projection lag not measured", slog.String("projection", l.Name), slog.String("error", l.Err.Error()))
		}
		views = append(views, projectionView{Name: l.Name, Measured: l.Err == nil, Events: l.Events, Tenants: l.Tenants, AgeSeconds: l.Age.Seconds()})
	}
	return ok(struct {
		Projections []projectionView `json:"projections"`
	}{views}), nil
}
