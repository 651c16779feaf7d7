// SPDX-License-Identifier: Apache-2.0

// Package certs makes the certificates that an injector serves with, and says how one follows another without a
// request that fails in between. It knows files and clusters only as bytes.
//
// A [Set] is all there is at one time: an authority, the certificate that the authority signed for the injector (the
// leaf), and the earlier authorities that are still to be trusted. Two things change on their own ways: what the
// replicas serve, and whom the API servers trust. Nobody can see when an API server has taken up a new caBundle, and
// there may be several, so no order of the two steps would be safe. Instead, every combination that can occur is valid:
//
//   - A new authority is signed by the one before it too (cross-signed), and that certificate goes out with the leaf.
//     So who trusts only the earlier authority accepts the new leaf already: [Set.Replace].
//   - The earlier authority stays in the bundle until every replica serves a leaf of the new one. So whoever still
//     serves the earlier leaf is accepted: [Set.Retire].
package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// The keys of a Secret that holds a set. The first three are those of the type kubernetes.io/tls and of cert-manager.
const (
	KeyCertificate = "tls.crt" // the leaf, then the cross-signed authorities
	KeyPrivate     = "tls.key"
	KeyBundle      = "ca.crt" // the authority, then the earlier ones
	KeyAuthority   = "ca.key" // the authority's private key
)

// skew is how far certificates are dated back, for API servers whose clocks are behind.
const skew = time.Hour

// Terms are what certificates are made to.
type Terms struct {
	// Hosts are the DNS names that the leaf is for: <service>.<namespace>.svc. At least one.
	Hosts []string
	// Leaf and Authority are how long each is valid. Each is renewed when a third of that is left.
	Leaf, Authority time.Duration
}

// Set is an authority, its leaf, and the earlier authorities. It does not change: what changes it returns another.
type Set struct {
	authority *x509.Certificate
	key       *ecdsa.PrivateKey // the authority's
	earlier   []*x509.Certificate
	leaf      tls.Certificate // with the cross-signed authorities behind it
}

// New makes an authority that nobody trusts yet, and its first leaf.
func New(t Terms, now time.Time) (*Set, error) {
	s := new(Set)
	if err := s.found(t, now); err != nil {
		return nil, err
	}
	if err := s.issue(t, now, nil); err != nil {
		return nil, err
	}
	return s, nil
}

// Renew makes a new leaf of the same authority.
func (s *Set) Renew(t Terms, now time.Time) (*Set, error) {
	next := &Set{authority: s.authority, key: s.key, earlier: s.earlier}
	if err := next.issue(t, now, s.crossed(now)); err != nil {
		return nil, err
	}
	return next, nil
}

// Replace makes a new authority and a leaf of it. The present authority signs the new one too, and joins the earlier
// ones, of which those that have expired are dropped.
func (s *Set) Replace(t Terms, now time.Time) (*Set, error) {
	next := new(Set)
	if err := next.found(t, now); err != nil {
		return nil, err
	}
	crossed := s.crossed(now)
	if !s.authority.NotAfter.Before(now) {
		template := authorityTemplate(next.authority.Subject, t.Hosts, t, now)
		template.NotAfter = earliest(next.authority.NotAfter, s.authority.NotAfter)
		der, err := sign(template, s.authority, &next.key.PublicKey, s.key)
		if err != nil {
			return nil, fmt.Errorf("sign the new authority with the present one: %w", err)
		}
		crossed = append([][]byte{der}, crossed...)
	}
	for _, a := range append([]*x509.Certificate{s.authority}, s.earlier...) {
		if !a.NotAfter.Before(now) {
			next.earlier = append(next.earlier, a)
		}
	}
	if err := next.issue(t, now, crossed); err != nil {
		return nil, err
	}
	return next, nil
}

// mostCrossed is how many cross-signed authorities go out with a leaf: so many authorities behind may an API server be.
const mostCrossed = 4

// crossed are the cross-signed authorities that go out with the leaf and are still valid, the newest first.
func (s *Set) crossed(now time.Time) [][]byte {
	var out [][]byte
	for _, der := range s.leaf.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil && !c.NotAfter.Before(now) {
			out = append(out, der)
		}
	}
	return out
}

// Retire returns the set without the earlier authorities. The cross-signed ones still go out with the leaf, for API
// servers that have not taken up the new bundle yet.
func (s *Set) Retire() *Set {
	return &Set{authority: s.authority, key: s.key, leaf: s.leaf}
}

// Due is what a set needs.
type Due int

const (
	Nothing      Due = iota
	NewLeaf          // Renew
	NewAuthority     // Replace
)

// Due says what the set needs now, and why, and else when to ask again.
func (s *Set) Due(t Terms, now time.Time) (what Due, why string, again time.Time) {
	authorityAt := s.authority.NotAfter.Add(-t.Authority / 3)
	leafAt := s.leaf.Leaf.NotAfter.Add(-t.Leaf / 3)
	switch {
	case !slices.Equal(s.authority.PermittedDNSDomains, t.Hosts):
		return NewAuthority, fmt.Sprintf("the authority is for %q, not for %q", s.authority.PermittedDNSDomains, t.Hosts), now
	case !now.Before(authorityAt):
		return NewAuthority, "the authority expires at " + s.authority.NotAfter.Format(time.RFC3339), now
	case !slices.Equal(s.leaf.Leaf.DNSNames, t.Hosts):
		return NewLeaf, fmt.Sprintf("the certificate is for %q, not for %q", s.leaf.Leaf.DNSNames, t.Hosts), now
	case !now.Before(leafAt):
		return NewLeaf, "the certificate expires at " + s.leaf.Leaf.NotAfter.Format(time.RFC3339), now
	}
	return Nothing, "", earliest(authorityAt, leafAt)
}

// Earlier reports how many earlier authorities are still trusted.
func (s *Set) Earlier() int { return len(s.earlier) }

// Certificate is what to serve with.
func (s *Set) Certificate() *tls.Certificate { return &s.leaf }

// ID names the leaf: the SHA-256 of its DER, in hex.
func (s *Set) ID() string { return Fingerprint(s.leaf.Leaf) }

// AuthorityID names the authority in the same way.
func (s *Set) AuthorityID() string { return Fingerprint(s.authority) }

// Fingerprint is the SHA-256 of a certificate's DER, in hex.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Bundle is whom to trust, as a caBundle takes it: PEM, the present authority first.
func (s *Set) Bundle() []byte {
	var b bytes.Buffer
	for _, a := range append([]*x509.Certificate{s.authority}, s.earlier...) {
		b.Write(encode("CERTIFICATE", a.Raw))
	}
	return b.Bytes()
}

// Data is the set as a Secret holds it.
func (s *Set) Data() (map[string][]byte, error) {
	leafKey, err := x509.MarshalPKCS8PrivateKey(s.leaf.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode the certificate's key: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return nil, fmt.Errorf("encode the authority's key: %w", err)
	}
	var chain bytes.Buffer
	for _, der := range s.leaf.Certificate {
		chain.Write(encode("CERTIFICATE", der))
	}
	return map[string][]byte{
		KeyCertificate: chain.Bytes(),
		KeyPrivate:     encode("PRIVATE KEY", leafKey),
		KeyBundle:      s.Bundle(),
		KeyAuthority:   encode("PRIVATE KEY", key),
	}, nil
}

// Parse reads what Data gives. It refuses a set whose parts do not belong together.
func Parse(data map[string][]byte) (*Set, error) {
	s := new(Set)
	var err error
	if s.leaf, err = tls.X509KeyPair(data[KeyCertificate], data[KeyPrivate]); err != nil {
		return nil, fmt.Errorf("read %s and %s: %w", KeyCertificate, KeyPrivate, err)
	}
	authorities, err := certificates(data[KeyBundle])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", KeyBundle, err)
	}
	s.authority, s.earlier = authorities[0], authorities[1:]
	pair, err := tls.X509KeyPair(encode("CERTIFICATE", s.authority.Raw), data[KeyAuthority])
	if err != nil {
		return nil, fmt.Errorf("read %s, for the first certificate in %s: %w", KeyAuthority, KeyBundle, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %s: it is a %T, want an ECDSA key", KeyAuthority, pair.PrivateKey)
	}
	s.key = key
	if err := s.leaf.Leaf.CheckSignatureFrom(s.authority); err != nil {
		return nil, fmt.Errorf("the certificate in %s is not of the first authority in %s: %w", KeyCertificate, KeyBundle, err)
	}
	return s, nil
}

// certificates reads PEM with certificates of authorities only; at least one.
func certificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !c.IsCA {
			return nil, fmt.Errorf("certificate %s is not an authority's", c.Subject)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return out, nil
}

// found makes the set's authority.
func (s *Set) found(t Terms, now time.Time) error {
	if len(t.Hosts) == 0 || t.Leaf <= 0 || t.Authority < t.Leaf {
		return fmt.Errorf("make an authority: want at least one host, and an authority that is valid as long as its leaf; got %+v", t)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make an authority: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return fmt.Errorf("make an authority: %w", err)
	}
	// The serial number makes the name unique: chains are built by name.
	template := authorityTemplate(pkix.Name{CommonName: t.Hosts[0][:min(len(t.Hosts[0]), 64)], SerialNumber: serial.Text(16)}, t.Hosts, t, now)
	der, err := sign(template, template, &key.PublicKey, key)
	if err == nil {
		s.authority, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return fmt.Errorf("make an authority: %w", err)
	}
	s.key = key
	return nil
}

// authorityTemplate is an authority that can sign for its hosts only: who steals its key can pose as this injector, and
// as nobody else.
func authorityTemplate(subject pkix.Name, hosts []string, t Terms, now time.Time) *x509.Certificate {
	everywhere := []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
	return &x509.Certificate{
		Subject:                     subject,
		NotBefore:                   now.Add(-skew),
		NotAfter:                    now.Add(t.Authority),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true, // without a limit to the path: it must be able to sign its successor
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         hosts,
		ExcludedIPRanges:            everywhere,
	}
}

// issue makes the set's leaf; crossed go out behind it.
func (s *Set) issue(t Terms, now time.Time, crossed [][]byte) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	der, err := sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: t.Hosts[0][:min(len(t.Hosts[0]), 64)]},
		DNSNames:              t.Hosts,
		NotBefore:             now.Add(-skew),
		NotAfter:              earliest(now.Add(t.Leaf), s.authority.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}, s.authority, &key.PublicKey, s.key)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	crossed = crossed[:min(len(crossed), mostCrossed)]
	s.leaf = tls.Certificate{Certificate: append([][]byte{der}, crossed...), PrivateKey: key, Leaf: leaf}
	return nil
}

// sign gives a template a serial number of its own and signs it.
func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) ([]byte, error) {
	var err error
	if template.SerialNumber, err = serialNumber(); err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, template, parent, public, key)
}

func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
