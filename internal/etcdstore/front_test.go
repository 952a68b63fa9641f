package etcdstore_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"privyseal/internal/etcd/etcdtest"
)

// balancer returns the URL of one that spreads connections over endpoints, byte by byte,
// and of each that it takes cuts off what limit says after as many bytes from the client; 0
// means none.
func balancer(t *testing.T, endpoints []string, limit func(n int) int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for n := 0; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			_, hostport, _ := strings.Cut(endpoints[n%len(endpoints)], "://")
			member, err := net.Dial("tcp", hostport)
			if err != nil {
				client.Close()
				continue
			}
			var up io.Reader = client
			if most := limit(n); most > 0 {
				up = io.LimitReader(client, most)
			}
			go func() {
				io.Copy(member, up)
				member.Close()
				client.Close()
			}()
			go func() {
				io.Copy(client, member)
				client.Close()
				member.Close()
			}()
		}
	}()
	return "https://" + l.Addr().String()
}

func unlimited(int) int64 { return 0 }

// torn cuts the first connections off in the middle of TLS, each a little later.
func torn(n int) int64 {
	if n >= 30 {
		return 0
	}
	return int64(1 + 97*n)
}

// spreader returns the URL of a proxy that knows HTTP/2: one connection to it ends there,
// and its calls go to one member after the other.
func spreader(t *testing.T, c *etcdtest.Cluster) string {
	t.Helper()
	theirs, err := c.Signer.Config()
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	endpoints := c.Endpoints()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			to, _ := url.Parse(endpoints[calls.Add(1)/2%int64(len(endpoints))])
			r.SetURL(to)
			r.Out.Header.Set("Te", "trailers")
		},
		Transport:     &http.Transport{TLSClientConfig: theirs, ForceAttemptHTTP2: true},
		FlushInterval: -1,
	}
	s := httptest.NewUnstartedServer(proxy)
	s.EnableHTTP2 = true
	ours, err := c.Server(t, "127.0.0.1").Config()
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: ours.Certificates, MinVersion: tls.VersionTLS13}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}
