package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/budgetguard/budgetguard/proxy/request"
)

// Metrics are the proxy's, registered once. Tenants are no label: their number has no bound.
type Metrics struct {
	requests  *prometheus.CounterVec
	reserve   prometheus.Histogram
	settle    prometheus.Histogram
	provider  prometheus.Histogram
	presumeds *prometheus.CounterVec
	overruns  prometheus.Counter
	local     prometheus.Counter
	unknowns  prometheus.Counter
	refused   prometheus.Counter
}

// NewMetrics makes the metrics and registers them; a second registration in one registry panics, as
// prometheus does.
func NewMetrics(r prometheus.Registerer) *Metrics {
	// From a local commit to a database far away; the hold time of a provider is another scale.
	buckets := []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 3}
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budgetguard_requests_total", Help: "Requests by route and decision: forwarded, or the code of the refusal.",
		}, []string{"route", "decision"}),
		reserve: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "budgetguard_reserve_seconds", Help: "Time a request waits for its reservation.", Buckets: buckets,
		}),
		settle: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "budgetguard_settle_seconds", Help: "Time from the end of a call to the commit that closes its reservation.", Buckets: buckets,
		}),
		provider: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "budgetguard_upstream_seconds", Help: "Time to the provider's response headers.", Buckets: prometheus.ExponentialBuckets(.005, 2, 18),
		}),
		presumeds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budgetguard_presumed_total", Help: "Calls charged their whole hold, by reason.",
		}, []string{"reason"}),
		overruns: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "budgetguard_overruns_total", Help: "Calls that cost more than was reserved: an estimate was no upper bound.",
		}),
		local: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "budgetguard_local_rate_limits_total", Help: "Requests limited by this gateway alone because Redis did not answer.",
		}),
	}
	m.unknowns = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "budgetguard_unknown_usage_figures_total",
		Help: "Figures in tokens in providers' usages that no table knows; the log names each once.",
	})
	m.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "budgetguard_upstream_refused_total",
		Help: "Answers 401 of the provider to the installation's own key.",
	})
	r.MustRegister(m.refused, m.unknowns, m.requests, m.reserve, m.settle, m.provider, m.presumeds, m.overruns, m.local)
	return m
}

func (m *Metrics) decided(route request.Route, decision string) {
	m.requests.WithLabelValues(string(route), decision).Inc()
}
func (m *Metrics) reserved(took time.Duration) { m.reserve.Observe(took.Seconds()) }
func (m *Metrics) settled(took time.Duration)  { m.settle.Observe(took.Seconds()) }
func (m *Metrics) upstream(took time.Duration) { m.provider.Observe(took.Seconds()) }
func (m *Metrics) presumed(reason string)      { m.presumeds.WithLabelValues(reason).Inc() }
func (m *Metrics) overran()                    { m.overruns.Inc() }
func (m *Metrics) upstreamRefused()            { m.refused.Inc() }
func (m *Metrics) unknownFigure()              { m.unknowns.Inc() }
func (m *Metrics) limitedLocally()             { m.local.Inc() }
