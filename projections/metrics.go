package projections

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters and gauges of this package. One value serves everything in a process.
type Metrics struct {
	published   prometheus.Counter
	outbox      prometheus.Gauge
	outboxAge   prometheus.Gauge
	leader      prometheus.Gauge
	applied     *prometheus.CounterVec
	lagEvents   *prometheus.GaugeVec
	lagTenants  *prometheus.GaugeVec
	stopped     *prometheus.GaugeVec
	expired     prometheus.Counter
	orphans     prometheus.Counter
	reapFailed  prometheus.Counter
	fromLedger  prometheus.Counter
	fromCounter prometheus.Counter
}

// NewMetrics makes the metrics and shows them in a registry.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := newMetrics()
	for _, c := range []prometheus.Collector{
		m.published, m.outbox, m.outboxAge, m.leader, m.applied, m.lagEvents, m.lagTenants, m.stopped,
		m.expired, m.orphans, m.reapFailed, m.fromLedger, m.fromCounter,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register projection metrics: %w", err)
		}
	}
	return m, nil
}

func newMetrics() *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	of := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"projection"})
	}
	return &Metrics{
		published: counter("budgetguard_events_published_total", "Events put on the stream, repetitions included."),
		outbox:    gauge("budgetguard_outbox_events", "Events still to be published."),
		outboxAge: gauge("budgetguard_outbox_age_seconds", "Age of the oldest event still to be published."),
		leader:    gauge("budgetguard_relay_leader", "1 while the relay of this process is the one that publishes."),
		applied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budgetguard_projection_events_total",
			Help: "Events by what a projection did with them: applied, duplicate, gap (filled from Postgres), bad (unreadable entry of the stream).",
		}, []string{"projection", "result"}),
		lagEvents:   of("budgetguard_projection_lag_events", "Events a projection has still to apply."),
		lagTenants:  of("budgetguard_projection_lag_tenants", "Tenants of which a projection has still events to apply."),
		stopped:     of("budgetguard_projection_stopped_tenants", "Tenants whose projection stands still because an event cannot be applied."),
		expired:     counter("budgetguard_reaper_expired_total", "Overdue reservations closed."),
		orphans:     counter("budgetguard_reaper_orphans_total", "Reservations of gateways that are gone, charged before their time."),
		reapFailed:  counter("budgetguard_reaper_failed_total", "Attempts to close an overdue reservation that failed."),
		fromLedger:  counter("budgetguard_balances_from_ledger_total", "Balances read from Postgres because Redis could not vouch for them."),
		fromCounter: counter("budgetguard_balances_from_registers_total", "Balances read from Redis."),
	}
}
