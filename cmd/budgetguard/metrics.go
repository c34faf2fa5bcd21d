package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

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
	const patience = 2 * time.Second
	return &lazyGauge{desc: prometheus.NewDesc(name, help, nil, nil), read: read, patience: patience}
}

type lazyGauge struct {
	desc     *prometheus.Desc
	read     func(context.Context) (int64, error)
	patience time.Duration
}

func (g *lazyGauge) Describe(descs chan<- *prometheus.Desc) { descs <- g.desc }

func (g *lazyGauge) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), g.patience)
	defer cancel()
	if n, err := g.read(ctx); err == nil {
		metrics <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(n))
	}
}
