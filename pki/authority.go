// SPDX-License-Identifier: Apache-2.0

// Package pki makes the certificates of a run: one [Authority], which lives in memory only, and the pairs that it
// issues. The tap serves with one, every instance of a target serves with one, a control plane of local processes
// takes its serving and client certificates here. So TLS is verified everywhere, against an authority that did not
// exist before the run and that nobody trusts after it.
//
// A pair carries its names as subject alternative names: Go's verifier, and with it the API server, refuses a
// certificate that has a common name alone.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// Validity is how long the certificates of an authority hold: longer than any run, shorter than anything that might
// be tempted to rely on them.
const Validity = 48 * time.Hour

// skew is how far certificates are dated back, for a cluster in a virtual machine whose clock lags behind.
const skew = time.Hour

// An Authority signs certificates. Its key never leaves memory. It is safe for concurrent use.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	bundle      []byte
	pool        *x509.CertPool
}

// NewAuthority makes a certificate authority of its own: an ECDSA P-256 key and a self-signed certificate named
// "outrigger", valid for [Validity].
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the run's certificate authority: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, fmt.Errorf("making the run's certificate authority: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		// The serial number makes the name unique: two runs' authorities must not be taken for one another when a
		// chain is built by name.
		Subject:               pkix.Name{CommonName: "outrigger", SerialNumber: serial.Text(16)},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(Validity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the run's certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the run's certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return &Authority{
		certificate: certificate,
		key:         key,
		bundle:      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pool:        pool,
	}, nil
}

// CABundle returns the authority's certificate as PEM: what a webhook's clientConfig.caBundle takes.
func (a *Authority) CABundle() []byte { return append([]byte(nil), a.bundle...) }

// Pool returns a pool that holds the authority's certificate alone. The caller may add to it.
func (a *Authority) Pool() *x509.CertPool { return a.pool.Clone() }

// Issue makes a serving certificate for hosts, each an IP address or a DNS name, all of them subject alternative
// names; at least one. The first is the common name too, for people who read it.
func (a *Authority) Issue(hosts ...string) (*Pair, error) { return a.IssueOn(Terms{}, hosts...) }

// Terms are what a serving certificate can have otherwise than Issue makes it: for certificates that must be refused.
// The zero value is what Issue makes.
type Terms struct {
	// NotBefore and NotAfter bound its validity. Default: from an hour ago until the authority ends.
	NotBefore, NotAfter time.Time
	// CommonNameOnly leaves the subject alternative names out, so that only the common name says whose it is.
	CommonNameOnly bool
}

// IssueOn makes a serving certificate as Issue does, on other terms.
func (a *Authority) IssueOn(terms Terms, hosts ...string) (*Pair, error) {
	if len(hosts) == 0 {
		return nil, errors.New("issuing a serving certificate: no host named; give at least one address or DNS name")
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName(hosts[0])},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore:   terms.NotBefore,
		NotAfter:    terms.NotAfter,
	}
	for _, host := range hosts {
		ip := net.ParseIP(host)
		switch {
		case host == "":
			return nil, fmt.Errorf("issuing a serving certificate for %q: a host is empty", hosts)
		case terms.CommonNameOnly:
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		default:
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	pair, err := a.sign(template)
	if err != nil {
		return nil, fmt.Errorf("issuing a serving certificate for %q: %w", hosts, err)
	}
	return pair, nil
}

// IssueClient makes a client certificate. Kubernetes reads user as the user's name and groups as its groups.
func (a *Authority) IssueClient(user string, groups ...string) (*Pair, error) {
	pair, err := a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, fmt.Errorf("issuing a client certificate for user %q: %w", user, err)
	}
	return pair, nil
}

// sign completes template (serial number, key usage, validity where it says none), signs it and returns it with a key of its own.
func (a *Authority) sign(template *x509.Certificate) (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = serialNumber(); err != nil {
		return nil, err
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-skew)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = a.certificate.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// A Pair is a certificate and its private key, as PEM.
type Pair struct {
	Certificate []byte
	Key         []byte // PKCS #8
}

// TLS returns the pair as crypto/tls takes it.
func (p *Pair) TLS() (tls.Certificate, error) {
	certificate, err := tls.X509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading a pair of certificate and key: %w", err)
	}
	return certificate, nil
}

// Write writes the certificate and the key to files that only their owner may read (mode 0600).
func (p *Pair) Write(certificateFile, keyFile string) error {
	if err := os.WriteFile(certificateFile, p.Certificate, 0o600); err != nil {
		return fmt.Errorf("writing a certificate: %w", err)
	}
	if err := os.WriteFile(keyFile, p.Key, 0o600); err != nil {
		return fmt.Errorf("writing a certificate's key: %w", err)
	}
	return nil
}

// commonName cuts a host to the 64 bytes that X.520 allows; the subject alternative names carry it in full.
func commonName(host string) string { return host[:min(len(host), 64)] }

// serialNumber returns a random number of 127 bits, so that no two certificates of any two runs share one.
func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}
