// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-k8s/outrigger/injector/decide"
	"github.com/outrigger-k8s/outrigger/injector/settings"
)

// Metrics are what an injector counts.
type Metrics struct {
	decisions *prometheus.CounterVec
	errors    *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	reloads   *prometheus.CounterVec
}

// NewMetrics makes metrics and registers them. The settings in force are asked for at each scrape.
func NewMetrics(registry prometheus.Registerer, current func() *settings.Settings) *Metrics {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "injector_decisions_total",
			Help: "Pods decided about, by the rule that decided and what came of it (injected, untouched).",
		}, []string{"rule", "decision"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "injector_errors_total",
			Help: "Requests that could not be answered as asked, by kind.",
		}, []string{"kind"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "injector_review_duration_seconds",
			Help:    "Time from the request's header to the end of the answer, by endpoint (inject, validate).",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .5, 1, 5},
		}, []string{"endpoint"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "injector_reloads_total",
			Help: "Changes of the configuration or certificate file, by file and result (ok, refused).",
		}, []string{"file", "result"}),
	}
	for _, rule := range decide.Rules() {
		m.decisions.WithLabelValues(rule.Name, outcome(rule.Inject))
	}
	for _, kind := range errorKinds {
		m.errors.WithLabelValues(kind)
	}
	for _, file := range []string{"configuration", "certificate"} {
		m.reloads.WithLabelValues(file, "ok")
		m.reloads.WithLabelValues(file, "refused")
	}
	registry.MustRegister(m.decisions, m.errors, m.latency, m.reloads, &configurationInfo{current: current})
	return m
}

// ConfigurationReloaded counts a change of the configuration file; err is why it was refused.
func (m *Metrics) ConfigurationReloaded(err error) {
	m.reloads.WithLabelValues("configuration", result(err)).Inc()
}

// CertificateReloaded counts a change of the certificate files; err is why it was refused.
func (m *Metrics) CertificateReloaded(err error) {
	m.reloads.WithLabelValues("certificate", result(err)).Inc()
}

func result(err error) string {
	if err != nil {
		return "refused"
	}
	return "ok"
}

// configurationInfo is a metric of the value 1 whose labels name the configuration in force. It is made at each
// scrape, so that there is never more than one.
type configurationInfo struct {
	current func() *settings.Settings
}

var configurationInfoDesc = prometheus.NewDesc("injector_configuration_info",
	"The configuration in force.", []string{"hash", "dialect", "policy"}, nil)

// Describe implements prometheus.Collector.
func (*configurationInfo) Describe(out chan<- *prometheus.Desc) { out <- configurationInfoDesc }

// Collect implements prometheus.Collector.
func (c *configurationInfo) Collect(out chan<- prometheus.Metric) {
	s := c.current()
	if s == nil { // there is none yet
		return
	}
	out <- prometheus.MustNewConstMetric(configurationInfoDesc, prometheus.GaugeValue, 1,
		s.Hash, s.Decision.Dialect.Name, s.Decision.Policy)
}
