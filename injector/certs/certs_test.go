// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const host = "injector.mesh.svc"

var (
	epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	terms = Terms{Hosts: []string{host}, Leaf: 30 * 24 * time.Hour, Authority: 365 * 24 * time.Hour}
)

func made(t testing.TB, s *Set, err error) *Set {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// verify checks what a set serves as an API server does that trusts a bundle.
func verify(serves *Set, trusts []byte, name string, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(trusts)
	for _, der := range serves.leaf.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(c)
	}
	_, err := serves.leaf.Leaf.Verify(x509.VerifyOptions{
		DNSName: name, Roots: roots, Intermediates: between, CurrentTime: now,
	})
	return err
}

// TestEveryCombinationIsValid is the promise of the package: whatever a replica serves and whatever an API server
// trusts at any time, the one accepts the other. Replicas and API servers take up what is written in any order, each
// when it likes; nobody waits for an API server. An earlier authority is retired once every replica serves the new one.
func TestEveryCombinationIsValid(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		now := epoch
		s, err := New(terms, now)
		if err != nil {
			r.Fatal(err)
		}
		replicas := []*Set{s, s, s}
		bundles, replaced := [][]byte{s.Bundle()}, []int{0} // all that were ever written, and after how many authorities
		authorities := 0
		apiservers := []int{0, 0} // which bundle each trusts
		write := func(next *Set, err error) {
			if err != nil {
				r.Fatal(err)
			}
			s = next
			bundles, replaced = append(bundles, s.Bundle()), append(replaced, authorities)
		}
		check := func() {
			for i, replica := range replicas {
				for j, at := range apiservers {
					if err := verify(replica, bundles[at], host, now); err != nil {
						r.Fatalf("replica %d is refused by API server %d: %v", i, j, err)
					}
				}
			}
		}
		r.Repeat(map[string]func(*rapid.T){
			"time passes": func(*rapid.T) { now = now.Add(time.Hour) },
			"renew":       func(*rapid.T) { write(s.Renew(terms, now)) },
			"replace": func(r *rapid.T) {
				if authorities-replaced[apiservers[0]] >= mostCrossed || authorities-replaced[apiservers[1]] >= mostCrossed {
					r.Skip("an API server is as far behind as it may be")
				}
				authorities++
				write(s.Replace(terms, now))
			},
			"retire": func(r *rapid.T) {
				for _, replica := range replicas {
					if replica.AuthorityID() != s.AuthorityID() {
						r.Skip("a replica serves an earlier one")
					}
				}
				write(s.Retire(), nil)
			},
			"a replica takes it up": func(r *rapid.T) {
				replicas[rapid.IntRange(0, len(replicas)-1).Draw(r, "replica")] = s
			},
			"an API server takes up a bundle": func(r *rapid.T) {
				i := rapid.IntRange(0, len(apiservers)-1).Draw(r, "API server")
				apiservers[i] = rapid.IntRange(apiservers[i], len(bundles)-1).Draw(r, "bundle")
			},
			"it is stored and read": func(r *rapid.T) {
				data, err := s.Data()
				if err != nil {
					r.Fatal(err)
				}
				if s, err = Parse(data); err != nil {
					r.Fatal(err)
				}
			},
			"": func(*rapid.T) { check() },
		})
	})
}

// TestRetiredIsNotTrusted checks what the promise must not be bought with.
func TestRetiredIsNotTrusted(t *testing.T) {
	s, err := New(terms, epoch)
	first := made(t, s, err)
	s, err = first.Replace(terms, epoch)
	second := made(t, s, err)
	if second.Earlier() != 1 || !bytes.HasSuffix(second.Bundle(), first.Bundle()) {
		t.Errorf("after the replacement %d earlier authorities are trusted, want the first:\n%s", second.Earlier(), second.Bundle())
	}
	retired := second.Retire()
	if retired.Earlier() != 0 || retired.ID() != second.ID() {
		t.Errorf("retired: %d earlier authorities, leaf %s; want none, %s", retired.Earlier(), retired.ID(), second.ID())
	}
	if err := verify(first, retired.Bundle(), host, epoch); err == nil {
		t.Error("the first leaf is accepted although its authority is retired")
	}
	s, err = New(terms, epoch)
	if err := verify(first, made(t, s, err).Bundle(), host, epoch); err == nil {
		t.Error("a leaf of another authority is accepted")
	}
}

// TestAuthoritySignsForItsHostsOnly signs other names with the authority's stolen key.
func TestAuthoritySignsForItsHostsOnly(t *testing.T) {
	s, err := New(terms, epoch)
	s = made(t, s, err)
	for _, other := range []string{"kubernetes.default.svc", "other.mesh.svc", "mesh.svc"} {
		thief := &Set{authority: s.authority, key: s.key}
		stolen := terms
		stolen.Hosts = []string{other}
		if err := thief.issue(stolen, epoch, nil); err != nil {
			t.Fatal(err)
		}
		if err := verify(thief, s.Bundle(), other, epoch); err == nil {
			t.Errorf("the authority of %s signs for %s", host, other)
		}
	}
	if err := verify(s, s.Bundle(), "127.0.0.1", epoch); err == nil {
		t.Error("the leaf is valid for an address")
	}
}

func TestDue(t *testing.T) {
	s, err := New(terms, epoch)
	s = made(t, s, err)
	moved := terms
	moved.Hosts = []string{"injector.other.svc"}
	day := 24 * time.Hour
	for _, test := range []struct {
		name  string
		terms Terms
		after time.Duration
		want  Due
		again time.Duration // since the epoch
	}{
		{"new", terms, 0, Nothing, 20 * day},
		{"just before", terms, 20*day - time.Second, Nothing, 20 * day},
		{"a third of the leaf is left", terms, 20 * day, NewLeaf, 20 * day},
		{"the leaf has expired", terms, 31 * day, NewLeaf, 31 * day},
		{"a third of the authority is left", terms, 365 * day * 2 / 3, NewAuthority, 365 * day * 2 / 3},
		{"other hosts", moved, 0, NewAuthority, 0},
	} {
		due, why, again := s.Due(test.terms, epoch.Add(test.after))
		if due != test.want || (why == "") != (due == Nothing) || (due == Nothing && !again.Equal(epoch.Add(test.again))) {
			t.Errorf("%s: due %v because %q, again at %v", test.name, due, why, again)
		}
	}
	// After each of them nothing is due, and it goes on for years.
	for now := epoch; now.Before(epoch.AddDate(3, 0, 0)); {
		due, _, again := s.Due(terms, now)
		switch due {
		case NewLeaf:
			s, err = s.Renew(terms, now)
		case NewAuthority:
			s, err = s.Replace(terms, now)
		}
		s = made(t, s, err)
		if left := s.leaf.Leaf.NotAfter.Sub(now); left <= 0 || s.leaf.Leaf.NotAfter.After(s.authority.NotAfter) {
			t.Fatalf("at %v the leaf is valid for %v, until %v; its authority until %v", now, left, s.leaf.Leaf.NotAfter, s.authority.NotAfter)
		}
		if due != Nothing {
			if due, why, _ := s.Due(terms, now); due != Nothing {
				t.Fatalf("at %v there is more to do at once: %s", now, why)
			}
			continue
		}
		now = again
	}
	if s.Earlier() > 2 || len(s.leaf.Certificate) > 3 {
		t.Errorf("after 3 years %d earlier authorities are trusted, and %d certificates sent: what has expired is kept", s.Earlier(), len(s.leaf.Certificate))
	}
}

func TestParseRefuses(t *testing.T) {
	s, err := New(terms, epoch)
	good, err1 := made(t, s, err).Data()
	s, err = New(terms, epoch)
	other, err2 := made(t, s, err).Data()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for _, test := range []struct {
		key  string
		with []byte
		want string
	}{
		{KeyCertificate, nil, "read tls.crt and tls.key"},
		{KeyCertificate, other[KeyCertificate], "read tls.crt and tls.key"},
		{KeyPrivate, []byte("x"), "read tls.crt and tls.key"},
		{KeyBundle, nil, "there is no certificate in it"},
		{KeyBundle, other[KeyBundle], "read ca.key"},
		{KeyBundle, good[KeyCertificate], "is not an authority's"},
		{KeyAuthority, nil, "read ca.key"},
		{KeyAuthority, other[KeyAuthority], "read ca.key"},
	} {
		data := map[string][]byte{}
		for k, v := range good {
			data[k] = v
		}
		data[test.key] = test.with
		if _, err := Parse(data); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s replaced: %v, want %q", test.key, err, test.want)
		}
	}
	mixed := map[string][]byte{KeyCertificate: good[KeyCertificate], KeyPrivate: good[KeyPrivate],
		KeyBundle: other[KeyBundle], KeyAuthority: other[KeyAuthority]}
	if _, err := Parse(mixed); err == nil || !strings.Contains(err.Error(), "is not of the first authority") {
		t.Errorf("two sets mixed: %v", err)
	}
	if _, err := Parse(nil); err == nil {
		t.Error("nothing is read as a set")
	}
	for _, bad := range []Terms{{}, {Hosts: []string{host}}, {Hosts: []string{host}, Leaf: 2, Authority: 1}} {
		if _, err := New(bad, epoch); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// TestHandshake is one of the combinations over real TLS: who trusts the earlier authority alone meets the new leaf.
func TestHandshake(t *testing.T) {
	now := time.Now()
	s, err := New(terms, now)
	first := made(t, s, err)
	s, err = first.Replace(terms, now)
	second := made(t, s, err)
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	served := make(chan error, 1)
	go func() {
		served <- tls.Server(server, &tls.Config{Certificates: []tls.Certificate{*second.Certificate()}}).Handshake()
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(first.Bundle())
	if err := tls.Client(client, &tls.Config{RootCAs: roots, ServerName: host}).Handshake(); err != nil {
		t.Error(err)
	}
	client.Close()
	<-served
}

func FuzzParse(f *testing.F) {
	s, err := New(terms, epoch)
	data, err2 := made(f, s, err).Data()
	if err2 != nil {
		f.Fatal(err2)
	}
	f.Add(data[KeyCertificate], data[KeyPrivate], data[KeyBundle], data[KeyAuthority])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte{}, []byte("x"), []byte(nil))
	f.Fuzz(func(t *testing.T, certificate, private, bundle, authority []byte) {
		s, err := Parse(map[string][]byte{KeyCertificate: certificate, KeyPrivate: private, KeyBundle: bundle, KeyAuthority: authority})
		if err != nil {
			return
		}
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse(data); err != nil || again.ID() != s.ID() || !bytes.Equal(again.Bundle(), s.Bundle()) {
			t.Errorf("what was read is not read again: %v", err)
		}
	})
}
