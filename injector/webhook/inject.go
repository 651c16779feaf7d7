// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/outrigger-k8s/outrigger/injector/decide"
	"github.com/outrigger-k8s/outrigger/injector/pod"
	"github.com/outrigger-k8s/outrigger/injector/settings"
)

// pods is what /inject is made to be asked about.
var pods = subject{
	kind:       kind{Version: "v1", Kind: "Pod"},
	resource:   resource{Version: "v1", Resource: "pods"},
	operations: []string{"CREATE"},
}

// The keys of the audit annotations. The API server puts the webhook's name and a slash before them.
const (
	auditDecision = "decision" // injected or untouched
	auditRule     = "rule"     // one of decide.Rules
	auditWorkload = "workload" // as in Deployment/web
)

// inject answers a review of a pod.
func (w *Webhook) inject(ctx context.Context, body []byte) (*answer, *refusal) {
	r, warning, refused := decode[pod.Pod](body, pods)
	if refused != nil {
		return nil, refused
	}
	if warning != "" {
		return w.unseen(r.reply(true), warning), nil
	}
	s := w.settings()
	if s == nil {
		return nil, &refusal{code: http.StatusServiceUnavailable, kind: unready, text: "the injector waits " + errNoSettings}
	}
	p := r.Request.Object
	decision := decide.Decide(&s.Decision, r.Request.Namespace, p)
	workload := p.Owner().String()
	a := r.reply(true)
	a.Response.Warnings = decision.Warnings
	a.Response.AuditAnnotations = map[string]string{
		auditDecision: outcome(decision.Inject),
		auditRule:     decision.Rule,
		auditWorkload: workload,
	}
	if decision.Inject {
		if refused := w.patch(a, s, p, body); refused != nil {
			return nil, refused
		}
	}
	w.metrics.decisions.WithLabelValues(decision.Rule, outcome(decision.Inject)).Inc()
	if w.log.Enabled(ctx, slog.LevelDebug) {
		w.log.LogAttrs(ctx, slog.LevelDebug, "decided",
			slog.String("namespace", r.Request.Namespace), slog.String("workload", workload),
			slog.String("uid", r.Request.UID), slog.String("decision", outcome(decision.Inject)),
			slog.String("rule", decision.Rule), slog.String("why", decision.Why),
			slog.String("configuration", s.Hash), slog.Int("patchBytes", len(a.Response.Patch)))
	}
	return a, nil
}

// patch adds the patch to an answer. A pod that is as it should be gets none: a patch without operations would make the
// API server believe that the pod was changed.
func (w *Webhook) patch(a *answer, s *settings.Settings, p *pod.Pod, body []byte) *refusal {
	patch, warnings, err := s.Template.Encode(p, func() (json.RawMessage, error) { return object(body) })
	if err != nil {
		return bad(badPatch, "%v", err)
	}
	a.Response.Warnings = append(a.Response.Warnings, warnings...)
	if patch != nil {
		a.Response.Patch, a.Response.PatchType = patch, "JSONPatch"
	}
	return nil
}

// unseen completes an answer to a request that the endpoint is not made for.
func (w *Webhook) unseen(a *answer, warning string) *answer {
	w.metrics.errors.WithLabelValues(misdirected).Inc()
	w.log.Warn("misdirected review", "uid", a.Response.UID, "warning", warning)
	a.Response.Warnings = []string{warning}
	return a
}

func outcome(inject bool) string {
	if inject {
		return "injected"
	}
	return "untouched"
}
