package enclave

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// takeMembers takes over what a boot says of etcd.
func (e *enclave) takeMembers(ctx context.Context, b *hostlink.BootEtcd, creds hostlink.Credentials) error {
	now, _ := e.database.(*members)
	if now == nil || !bytes.Equal(now.wrapped, b.Key) {
		now, err := e.openMembers(ctx, b, creds)
		if err == nil {
			e.database = now
		}
		return err
	}
	certificate, err := clientCertificate(b.Certificate, now.key)
	if err != nil {
		return err
	}
	now.mu.Lock()
	now.certificate = certificate
	now.mu.Unlock()
	if !slices.Equal(now.endpoints, b.Endpoints) || now.try != tryOf(b.Try, hostlink.MinTry, hostlink.MaxTry) {
		e.log.Warn("other endpoints of etcd, or another try, count when the enclave is restarted: " + e.c.Cures.Restart)
	}
	return nil
}

// openMembers opens the key of the client.
func (e *enclave) openMembers(ctx context.Context, b *hostlink.BootEtcd, creds hostlink.Credentials) (*members, error) {
	if len(b.Endpoints) == 0 || len(b.Endpoints) > hostlink.MaxEndpoints {
		return nil, fmt.Errorf("%d members of etcd, not 1 to %d", len(b.Endpoints), hostlink.MaxEndpoints)
	}
	for _, endpoint := range b.Endpoints {
		if len(endpoint) > hostlink.MaxEndpoint || !strings.HasPrefix(endpoint, "https://") {
			return nil, fmt.Errorf("%.100q is not a member of etcd, https://HOST:PORT", endpoint)
		}
	}
	key, err := e.openClient(ctx, b.Key, creds)
	if err != nil {
		return nil, err
	}
	certificate, err := clientCertificate(b.Certificate, key)
	if err != nil {
		return nil, err
	}
	return &members{endpoints: b.Endpoints, try: tryOf(b.Try, hostlink.MinTry, hostlink.MaxTry), wrapped: b.Key, key: key, certificate: certificate}, nil
}

// openClient opens the key of a client, which is wrapped as an identity is.
func (e *enclave) openClient(ctx context.Context, wrapped []byte, creds hostlink.Credentials) (ed25519.PrivateKey, error) {
	key, _, err := e.open(ctx, creds, wrapped, "")
	if err != nil {
		return nil, fmt.Errorf("the client key of etcd: %w", err)
	}
	private, ok := key.Ed25519()
	if !ok {
		return nil, errors.New("the client key of etcd is not an ed25519 key")
	}
	return private, nil
}

// maxChain is how many certificates the client has at most, its own and those between it
// and the CA.
const maxChain = 8

// clientCertificate reads the certificate of the client, which is not secret and the host's
// to give.
func clientCertificate(text []byte, key ed25519.PrivateKey) (c tls.Certificate, err error) {
	if len(text) > hostlink.MaxCertificate {
		return c, fmt.Errorf("the client certificate of etcd has more than %d bytes", hostlink.MaxCertificate)
	}
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		begins := bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----"))
		if block, rest = pem.Decode(rest); block == nil || !begins || len(c.Certificate) == maxChain {
			return tls.Certificate{}, fmt.Errorf("the client certificate of etcd is not PEM certificates and nothing else, 1 to %d", maxChain)
		}
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	if len(c.Certificate) == 0 {
		return c, errors.New("there is no client certificate of etcd")
	}
	if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
		return tls.Certificate{}, fmt.Errorf("the client certificate of etcd: %w", err)
	}
	if !key.Public().(ed25519.PublicKey).Equal(c.Leaf.PublicKey) {
		return tls.Certificate{}, errors.New("the client certificate of etcd does not belong to the client key")
	}
	c.PrivateKey = key
	return c, nil
}

// config returns what identifies the client and the members, for one connection.
func (m *members) config(p *policy.Etcd) *tls.Config {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &tls.Config{
		Certificates: []tls.Certificate{m.certificate},
		// The name of the host's endpoint is no name of the policy: what is looked at
		// instead stands in Verify, at each handshake.
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return p.Verify(s.PeerCertificates) },
	}
}

// engine implements [database].
func (m *members) engine(e *enclave, id watermark.ID) (sharedmark.Engine, error) {
	p := &e.c.Policy.Etcd
	return &pinned{e.c.Etcd(Members{
		Endpoints: m.endpoints, Try: m.try, Prefix: p.Prefix, ID: id, Dial: e.dialMember,
		TLS: func() (*tls.Config, error) { return m.config(p), nil },
	}), p.Cluster()}, nil
}

func (e *enclave) dialMember(ctx context.Context, hostport string) (net.Conn, error) {
	conn, err := e.c.Dial(ctx, hostlink.EtcdPort)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	conn.SetDeadline(time.Now().Add(openTimeout))
	err = hostlink.OpenEtcd(conn, hostlink.EtcdHello{Address: hostport})
	if err == nil {
		err = errors.Join(conn.SetDeadline(time.Time{}), ctx.Err())
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// pinned is an engine that is of no use but on the cluster of the policy: others may have
// members of the same CA.
type pinned struct {
	sharedmark.Engine
	cluster [8]byte
}

// medium is what an engine calls the cluster.
func (p *pinned) medium() (m [16]byte) {
	copy(m[:], p.cluster[:])
	return m
}

// Ready implements [sharedmark.Engine].
func (p *pinned) Ready(ctx context.Context) (sharedmark.Position, bool, error) {
	at, fresh, err := p.Engine.Ready(ctx)
	if err == nil && fresh && at.Medium != p.medium() {
		p.Engine.Close() // or the next call finds a way that nobody has looked at
		return at, fresh, fmt.Errorf("%w: this is not the cluster of the measured policy, %x", sharedmark.ErrRefused, p.cluster)
	}
	return at, fresh, err
}

// certify makes a certificate request of a client key. Without etcd no key has a use for
// one: the host could hand in the identity, which is wrapped alike.
func (e *enclave) certify(ctx context.Context, req *hostlink.Certify) ([]byte, error) {
	if !e.c.Policy.Etcd.Named() {
		return nil, &curedError{errors.New("the measured policy names no etcd"), e.c.Cures.Rebuild}
	}
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@"
	if req.Name == "" || len(req.Name) > 64 || strings.Trim(req.Name, allowed) != "" {
		return nil, fmt.Errorf("%.80q is not the name of a user of etcd: 1 to 64 of A-Z a-z 0-9 . _ - @", req.Name)
	}
	key, err := e.openClient(ctx, req.Key, req.Credentials)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: req.Name}}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
