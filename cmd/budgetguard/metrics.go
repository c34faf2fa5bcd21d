package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/budgetguard/budgetguard/admin"
	"github.com/budgetguard/budgetguard/eventstore"
)

// ledgerMetrics registers what the ledger and its tables show, and returns what counts its turns.
func ledgerMetrics(r *prometheus.Registry, store *eventstore.Store) func(eventstore.Turned) {
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "budgetguard_append_seconds", Help: "Time of a turn in Postgres, by path.",
		Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 3},
	}, []string{"path"})
	events := prometheus.NewCounter(prometheus.CounterOpts{Name: "budgetguard_events_appended_total", Help: "Events appended by this process."})
	conflicts := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "budgetguard_append_conflicts_total", Help: "Turns that lost the compare-and-set to another gateway and were tried again.",
	})
	failures := prometheus.NewCounter(prometheus.CounterOpts{Name: "budgetguard_append_failures_total", Help: "Turns that Postgres refused or did not answer."})
	r.MustRegister(took, events, conflicts, failures, gauge("budgetguard_open_holds", "Reservations open now, all tenants.", store.OpenHolds),
		gauge("budgetguard_outbox_depth", "Appends still to be published.", store.OutboxDepth),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return func(t eventstore.Turned) {
		path := "fast"
		if t.Locked {
			path = "locked"
		}
		took.WithLabelValues(path).Observe(t.Took.Seconds())
		events.Add(float64(t.Events))
		conflicts.Add(float64(t.Conflicts))
		if t.Err != nil {
			failures.Inc()
		}
	}
}

// gauge reads its value when it is scraped; it is missing where the database does not answer in time.
func gauge(name, help string, read func(context.Context) (int64, error)) prometheus.Collector {
	return &lazyGauge{desc: prometheus.NewDesc(name, help, nil, nil), read: read}
}

// scrapePatience bounds what one scrape asks of the database.
const scrapePatience = 2 * time.Second

type lazyGauge struct {
	desc *prometheus.Desc
	read func(context.Context) (int64, error)
}

func (g *lazyGauge) Describe(descs chan<- *prometheus.Desc) { descs <- g.desc }

func (g *lazyGauge) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
	defer cancel()
	if n, err := g.read(ctx); err == nil {
		metrics <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(n))
	}
}

// lagCollector shows how far the relay and the projections are behind, in events and seconds.
type lagCollector struct {
	events, seconds *prometheus.Desc
	read            func(context.Context) ([]admin.ProjectionLag, error)
}

func newLagCollector(read func(context.Context) ([]admin.ProjectionLag, error)) *lagCollector {
	labels := []string{"projection"}
	return &lagCollector{
		events:  prometheus.NewDesc("budgetguard_lag_events", "Events that a projection has still to apply, as this process measures it.", labels, nil),
		seconds: prometheus.NewDesc("budgetguard_lag_seconds", "Age of the oldest event that a projection has still to apply.", labels, nil),
		read:    read,
	}
}

func (c *lagCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.events
	descs <- c.seconds
}

func (c *lagCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
	defer cancel()
	lags, err := c.read(ctx)
	if err != nil {
		return
	}
	for _, l := range lags {
		if l.Err != nil {
			continue // missing is honest, zero would not be
		}
		metrics <- prometheus.MustNewConstMetric(c.events, prometheus.GaugeValue, float64(l.Events), l.Name)
		metrics <- prometheus.MustNewConstMetric(c.seconds, prometheus.GaugeValue, l.Age.Seconds(), l.Name)
	}
}
