package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/filestore"
)

// server starts what somebody takes for a member by mistake, and sets a variable to its
// endpoint. It is there until the test ends.
func (w *etcdWorld) server(ts *testscript.TestScript, kind, variable string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	w.t.Cleanup(func() { l.Close() })
	at := l.Addr().String()
	scheme := "https://"
	switch kind {
	case "silent": // takes connections, and says nothing
	case "web", "plain": // the second one by https://
		w.serve(l, nil)
		if kind == "web" {
			scheme = "http://"
		}
	case "untls": // a member with TLS, by http://
		scheme, at = "http://", strings.TrimPrefix(w.c.Endpoints()[0], scheme)
	case "tls", "h2":
		protocol := map[string]string{"tls": "http/1.1", "h2": "h2"}[kind]
		w.serve(l, w.config(ts, []string{protocol}))
	case "early":
		w.serve(l, w.config(ts, nil, etcdtest.Early))
	case "expired":
		w.serve(l, w.config(ts, nil, etcdtest.Expired))
	case "elsewhere": // a member, by a name that its certificate does not have
		l.Close()
		l, err = net.Listen("tcp", "127.0.0.2:0")
		ts.Check(err)
		w.t.Cleanup(func() { l.Close() })
		at = l.Addr().String()
		go forward(l, strings.TrimPrefix(w.c.Endpoints()[0], scheme))
	default:
		ts.Fatalf("etcd server %s", kind)
	}
	ts.Setenv(variable, scheme+at)
}

func (w *etcdWorld) config(ts *testscript.TestScript, protocols []string, changes ...func(*x509.Certificate)) *tls.Config {
	config, err := w.c.Server(w.t, "127.0.0.1", changes...).Config()
	ts.Check(err)
	config.NextProtos = protocols
	return config
}

// serve has a web server on l, which has nothing.
func (w *etcdWorld) serve(l net.Listener, config *tls.Config) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Listener.Close()
	server.Listener, server.TLS = l, config
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.t.Cleanup(server.Close)
	if config == nil {
		server.Start()
		return
	}
	server.EnableHTTP2 = config.NextProtos == nil || config.NextProtos[0] == "h2"
	server.StartTLS()
}

// forward copies what comes on connections to l, and back.
func forward(l net.Listener, to string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		member, err := net.Dial("tcp", to)
		if err != nil {
			client.Close()
			continue
		}
		go func() { io.Copy(member, client); member.Close() }()
		go func() { io.Copy(client, member); client.Close() }()
	}
}

// clone makes the floor of another host that of one, as the clone of a machine has it.
func (w *etcdWorld) clone(ts *testscript.TestScript, from, to string) {
	info, err := filestore.Inspect(filestore.Config{Path: ts.MkAbs(from)})
	ts.Check(err)
	ts.Check(filestore.Create(filestore.Config{Path: ts.MkAbs(to), ID: info.ID, Host: []string{ts.Getenv("PRIVYSEAL_RUN")}}, info.Saved))
}

// damage changes a byte of the value of a key.
func (w *etcdWorld) damage(ts *testscript.TestScript, key string) {
	d := etcd.Dialer{TLS: w.c.Root.Config}
	conn, err := d.Dial(w.t.Context(), w.c.Endpoints()[0])
	ts.Check(err)
	defer conn.Close()
	r, err := conn.Range(w.t.Context(), key, 0)
	ts.Check(err)
	wrong := slices.Clone(r.Value.Bytes)
	wrong[len(wrong)-1] ^= 1
	_, err = conn.Txn(w.t.Context(), etcd.Txn{Key: key, Old: r.Value.Bytes, Revision: r.Value.Modified, New: wrong})
	ts.Check(err)
}

// copy puts the value of one key there as that of another.
func (w *etcdWorld) copy(ts *testscript.TestScript, from, to string) {
	d := etcd.Dialer{TLS: w.c.Root.Config}
	conn, err := d.Dial(w.t.Context(), w.c.Endpoints()[0])
	ts.Check(err)
	defer conn.Close()
	r, err := conn.Range(w.t.Context(), from, 0)
	ts.Check(err)
	won, err := conn.Txn(w.t.Context(), etcd.Txn{Key: to, New: r.Value.Bytes})
	ts.Check(err)
	if !won.Won || r.Value.Bytes == nil {
		ts.Fatalf("%s is there, or %s is not", to, from)
	}
}
