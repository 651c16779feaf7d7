// SPDX-License-Identifier: Apache-2.0

// Package mutator is a tiny mutating webhook, for cases that are about several of them: the injector is one, and beside
// it stand others that add a label or a container. It is a real HTTPS server, called like any target, through the tap;
// each of its answers is one JSON patch, always the same, whatever the pod. What it does can so be read in the table
// that asks for it.
package mutator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/tap"
)

// noOperations is the patch that changes nothing: the answer then has none.
var noOperations = []byte("[]")

// maxReview bounds a review, in bytes: the API server sends at most 3 MiB.
const maxReview = 4 << 20

// A Server answers reviews of admission.k8s.io/v1 and v1beta1. All methods are safe for concurrent use.
type Server struct {
	authority *pki.Authority
	address   string
	server    *http.Server
	served    chan struct{} // closed when the server's loop has ended

	mu       sync.Mutex
	patches  map[string]json.RawMessage // by path
	upstream map[string]*tap.Upstream   // by path
}

// Listen starts a server on a free port of loopback, with a certificate of authority's. It serves until Close.
func Listen(authority *pki.Authority) (*Server, error) {
	pair, err := authority.Issue("127.0.0.1")
	if err != nil {
		return nil, fmt.Errorf("starting the mutators: %w", err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		return nil, fmt.Errorf("starting the mutators: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the mutators: %w", err)
	}
	s := &Server{
		authority: authority, address: listener.Addr().String(), served: make(chan struct{}),
		patches: map[string]json.RawMessage{}, upstream: map[string]*tap.Upstream{},
	}
	s.server = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() {
		defer close(s.served)
		_ = s.server.ServeTLS(listener, "", "") // always ends with http.ErrServerClosed
	}()
	return s, nil
}

// Answering is where a webhook answers every review with this JSON patch (RFC 6902). The same patch asked for again is
// the same upstream.
func (s *Server) Answering(_ context.Context, patch json.RawMessage) (*tap.Upstream, error) {
	var operations []any
	if err := json.Unmarshal(patch, &operations); err != nil {
		return nil, fmt.Errorf("making a mutator: its patch is no list of operations: %w", err)
	}
	sum := sha256.Sum256(patch)
	path := "/" + hex.EncodeToString(sum[:8])
	s.mu.Lock()
	defer s.mu.Unlock()
	if up := s.upstream[path]; up != nil {
		return up, nil
	}
	up, err := tap.NewUpstream(&url.URL{Scheme: "https", Host: s.address, Path: path}, s.authority.CABundle())
	if err != nil {
		return nil, fmt.Errorf("making a mutator: %w", err)
	}
	s.patches[path], s.upstream[path] = patch, up
	return up, nil
}

// Close stops the server: it listens no more, waits for calls under way until ctx ends, and hangs up on what is left.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	for _, up := range s.upstream {
		up.Close()
	}
	s.mu.Unlock()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stopping the mutators: calls were still under way: %w", err), s.server.Close())
	}
	<-s.served
	return err
}

// review is what is read of an AdmissionReview, and answered with.
type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID string `json:"uid"`
}

type response struct {
	UID       string `json:"uid"`
	Allowed   bool   `json:"allowed"`
	Patch     []byte `json:"patch,omitempty"` // base64 in JSON
	PatchType string `json:"patchType,omitempty"`
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	patch, known := s.patches[r.URL.Path]
	s.mu.Unlock()
	if !known {
		http.Error(w, "no mutator answers at this path", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := answerTo(body, patch)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer)
}

// answerTo is the answer to the review in body, in its own version, with patch.
func answerTo(body []byte, patch json.RawMessage) ([]byte, error) {
	var asked review
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, fmt.Errorf("the body is no AdmissionReview: %w", err)
	}
	if asked.Kind != "AdmissionReview" || asked.Request == nil {
		return nil, fmt.Errorf("the body is no AdmissionReview with a request, but a %.40q", asked.Kind)
	}
	answer := &response{UID: asked.Request.UID, Allowed: true}
	if !bytes.Equal(patch, noOperations) { // a validating webhook may not even answer with an empty patch
		answer.Patch, answer.PatchType = patch, "JSONPatch"
	}
	return json.Marshal(review{APIVersion: asked.APIVersion, Kind: asked.Kind, Response: answer})
}
