// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/outrigger-k8s/outrigger/tap"
)

// An Answerer answers for webhooks that are not the target's.
type Answerer interface {
	Answering(ctx context.Context, patch json.RawMessage) (*tap.Upstream, error)
}

// A Server does what a client asks of a tap.
type Server struct {
	Tap      *tap.Tap
	Mutators Answerer
	State    State // Strays is filled in

	mu        sync.Mutex
	upstreams map[string]*tap.Upstream // by URL, address and bundle: their connections are shared by all cases
}

// Serve serves on listener, with certificate, to clients whose certificates lead to clients, until ctx ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener, certificate tls.Certificate, clients *x509.CertPool) error {
	server := &http.Server{
		Handler: s.handler(),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		},
		ReadHeaderTimeout: time.Minute, IdleTimeout: 10 * time.Minute,
		ErrorLog: log.New(log.Writer(), "control: ", 0),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the tap's control on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
		err := server.Close()
		<-ended
		return err
	}
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	handle(mux, pathState, func(context.Context, struct{}) (State, error) {
		state := s.State
		_, state.Strays = s.Tap.Strays()
		return state, nil
	})
	handle(mux, pathExpect, func(_ context.Context, r expectRequest) (struct{}, error) {
		up, err := s.upstream(r.Upstream)
		if err != nil {
			return struct{}{}, err
		}
		fault, err := faultOf(r.Fault)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, s.Tap.ExpectFault(r.Key, up, fault)
	})
	handle(mux, pathRoute, func(_ context.Context, r routeRequest) (struct{}, error) {
		up, err := s.upstream(r.Upstream)
		if err != nil {
			return struct{}{}, err
		}
		fault, err := faultOf(r.Fault)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, s.Tap.Route(r.Key, r.Webhook, up, fault)
	})
	handle(mux, pathTake, func(ctx context.Context, r takeRequest) (takeAnswer, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(r.Within))
		defer cancel()
		return answerOf(s.Tap.Take(ctx, r.Key)), nil
	})
	handle(mux, pathRetake, func(ctx context.Context, r retakeRequest) (takeAnswer, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(r.Within))
		defer cancel()
		rest, err := s.routed(r.Rest)
		if err != nil {
			return takeAnswer{}, err
		}
		routes := map[string]tap.Routed{}
		for webhook, to := range r.Routes {
			if routes[webhook], err = s.routed(to); err != nil {
				return takeAnswer{}, err
			}
		}
		calls, err := s.Tap.Retake(ctx, r.Key, rest, routes)
		return answerOf(calls), err
	})
	handle(mux, pathFaultURL, func(_ context.Context, r faultURLRequest) (faultURLAnswer, error) {
		fault, err := faultOf(r.Fault)
		if err != nil {
			return faultURLAnswer{}, err
		}
		if fault == nil {
			return faultURLAnswer{}, errors.New("no fault is named")
		}
		at, err := s.Tap.FaultURL(fault, r.Webhook)
		return faultURLAnswer{at}, err
	})
	handle(mux, pathAnswer, func(ctx context.Context, r answerRequest) (*upstream, error) {
		up, err := s.Mutators.Answering(ctx, r.Patch)
		if err != nil {
			return nil, err
		}
		return upstreamOf(up), nil
	})
	handle(mux, pathReach, func(ctx context.Context, r reachRequest) (struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(r.Within))
		defer cancel()
		up, err := s.upstream(r.Upstream)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, up.Reach(ctx)
	})
	return mux
}

func answerOf(calls []tap.Call) (answer takeAnswer) {
	for _, c := range calls {
		answer.Calls = append(answer.Calls, packed(c))
	}
	return answer
}

func (s *Server) routed(r routed) (tap.Routed, error) {
	up, err := s.upstream(r.Upstream)
	if err != nil {
		return tap.Routed{}, err
	}
	fault, err := faultOf(r.Fault)
	return tap.Routed{Upstream: up, Fault: fault}, err
}

func faultOf(doc map[string]any) (*tap.Fault, error) {
	if doc == nil {
		return nil, nil
	}
	return tap.ParseFault(doc)
}

// maxUpstreams is more than the targets and mutators of any run.
const maxUpstreams = 10_000

func (s *Server) upstream(u *upstream) (*tap.Upstream, error) {
	if u == nil {
		return nil, errors.New("no upstream is named")
	}
	key := u.URL + "\x00" + u.Address + "\x00" + string(u.CABundle)
	s.mu.Lock()
	defer s.mu.Unlock()
	if up := s.upstreams[key]; up != nil {
		return up, nil
	}
	if len(s.upstreams) >= maxUpstreams {
		return nil, fmt.Errorf("there are %d upstreams already", maxUpstreams)
	}
	up, err := u.open()
	if err != nil {
		return nil, err
	}
	if s.upstreams == nil {
		s.upstreams = map[string]*tap.Upstream{}
	}
	s.upstreams[key] = up
	return up, nil
}

// handle answers requests for path with what do makes of them; its error is the answer's text.
func handle[Request, Answer any](mux *http.ServeMux, path string, do func(context.Context, Request) (Answer, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var request Request
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&request); err != nil {
			http.Error(w, fmt.Sprintf("read the request: %v", err), http.StatusBadRequest)
			return
		}
		answer, err := do(r.Context(), request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // who has gone needs no answer
	})
}
