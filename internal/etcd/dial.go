// Package etcd speaks with one member of an etcd cluster: gRPC over HTTP/2 over TLS 1.3,
// one connection, one call at a time, and only the calls that a shared mark needs. It is
// small because it is linked into the measured program of an enclave.
//
// It retries nothing, knows no other member and keeps nothing. What it says of a request
// that failed is whether it was certainly not executed (ErrNotSent).
//
// A member is trusted with what it says of its keys, and with nothing else: it, and
// whoever stands between, can delay or end a call, but not make us use more than a little
// memory, or wait for longer than the caller does.
package etcd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// Dialer opens connections to members.
type Dialer struct {
	// Net connects to HOST:PORT; nil: by TCP. In an enclave the host carries the bytes.
	Net func(ctx context.Context, hostport string) (net.Conn, error)
	// TLS returns what identifies us and the members. It is asked at each connection, so
	// that certificates that were renewed are used. nil: no TLS, with http://.
	TLS func() (*tls.Config, error)
}

// Dial connects to a member: https://HOST:PORT, or http://HOST:PORT where the dialer has
// no TLS. Every error wraps ErrNotSent.
func (d *Dialer) Dial(ctx context.Context, endpoint string) (*Conn, error) {
	c, err := d.dial(ctx, endpoint)
	if err != nil {
		return nil, &notSent{fmt.Errorf("cannot connect to %s: %w", endpoint, why(ctx, err))}
	}
	return c, nil
}

func (d *Dialer) dial(ctx context.Context, endpoint string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, maxCall)
	defer cancel()
	scheme, hostport, err := split(endpoint)
	if err != nil {
		return nil, err
	}
	if secure := d.TLS != nil; secure != (scheme == "https") {
		return nil, fmt.Errorf("%s:// where TLS is used: %v", scheme, secure)
	}
	connect := d.Net
	if connect == nil {
		connect = func(ctx context.Context, hostport string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", hostport)
		}
	}
	conn, err := connect(ctx, hostport)
	if err != nil {
		return nil, err
	}
	if d.TLS != nil {
		secured, err := d.secure(ctx, conn, hostport)
		if err != nil {
			conn.Close()
			return nil, err
		}
		conn = secured
	}
	c := newConn(conn, endpoint, scheme, hostport)
	if err := c.open(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func newConn(conn net.Conn, endpoint, scheme, authority string) *Conn {
	c := &Conn{endpoint: endpoint, conn: conn, in: bufio.NewReader(conn), scheme: scheme, authority: authority,
		fields: hpack.NewDecoder(4096, nil), next: 1, window: defaultWindow, initial: defaultWindow}
	c.fields.SetMaxStringLength(maxHeaders)
	return c
}

// split takes an endpoint apart.
func split(endpoint string) (scheme, hostport string, err error) {
	scheme, hostport, ok := strings.Cut(endpoint, "://")
	host, port, err := net.SplitHostPort(hostport)
	if n, e := strconv.ParseUint(port, 10, 16); !ok || err != nil || e != nil || n == 0 || host == "" || scheme != "https" && scheme != "http" ||
		strings.ContainsAny(host, "/?#@ ") {
		return "", "", errors.New("an endpoint is https://HOST:PORT or http://HOST:PORT")
	}
	return scheme, hostport, nil
}

// secure makes TLS 1.3 of a connection, to the name that the endpoint has if the config
// says no other.
func (d *Dialer) secure(ctx context.Context, conn net.Conn, hostport string) (net.Conn, error) {
	config, err := d.TLS()
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.MinVersion, config.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	config.NextProtos = []string{"h2"}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(hostport)
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if p := secured.ConnectionState().NegotiatedProtocol; p != "h2" {
		return nil, errProtocol
	}
	return secured, nil
}

// open exchanges SETTINGS. Those of the member come first; so a member that refuses our
// certificate, which it does after the handshake, is found here.
func (c *Conn) open(ctx context.Context) error {
	end := c.begin(ctx)
	settings := appendSetting(appendSetting(appendSetting(nil, settingPush, 0), settingWindow, window), settingHeaderList, maxHeaders)
	c.out = appendFrame(append(c.out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"...), frameSettings, 0, 0, settings)
	c.out = appendWindow(c.out, window-defaultWindow)
	unsent := c.flush()
	// A member that has refused our certificate may have hung up before it had all of that:
	// why it did is there to be read all the same.
	f, err := c.greeting()
	if err == nil {
		err = unsent
	}
	if err == nil {
		err = c.take(nil, f)
	}
	if err == nil {
		err = c.flush()
	}
	if !end() && err == nil {
		err = ctx.Err()
	}
	return err
}

var errProtocol = errors.New("the server does not speak HTTP/2")

// greeting reads the first frame of the member. Of what is not one, such as the text of an older
// HTTP, the length would be the first thing to be wrong.
func (c *Conn) greeting() (frame, error) {
	head, err := c.in.Peek(4)
	if err == nil && head[3] != frameSettings {
		err = errProtocol
	}
	if err != nil {
		return frame{}, err
	}
	f, err := c.read()
	if err == nil && f.has(flagAck) {
		err = errProtocol
	}
	return f, err
}
