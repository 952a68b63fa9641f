package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
)

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(m)) }

// dial connects to a member as a client.
func dial(t *testing.T, files etcdtest.Files, endpoint string) *etcd.Conn {
	t.Helper()
	d := etcd.Dialer{TLS: files.Config}
	c, err := d.Dial(t.Context(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A key is made, replaced and read on every member of a cluster, and nobody replaces what
// is no longer there.
func TestCompareAndSwap(t *testing.T) {
	c := etcdtest.Shared(t)
	key := c.Prefix() + "/mark"
	var last etcd.Value
	var cluster uint64
	for i, endpoint := range c.Endpoints() {
		conn := dial(t, c.Signer, endpoint)
		status, err := conn.Status(t.Context())
		if err != nil || status.Leader == 0 || status.Index < status.Applied || cluster != 0 && status.Header.Cluster != cluster {
			t.Fatalf("status %+v: %v", status, err)
		}
		cluster = status.Header.Cluster
		for n, value := range [][]byte{[]byte("a"), bytes.Repeat([]byte{0, 255}, 400), {}, bytes.Repeat([]byte("long"), 15<<10)} {
			t1 := etcd.Txn{Key: key, Old: last.Bytes, Revision: last.Modified, New: value}
			won, err := conn.Txn(t.Context(), t1)
			if err != nil || !won.Won {
				t.Fatalf("member %d, value %d: %+v, %v", i, n, won, err)
			}
			lost, err := conn.Txn(t.Context(), t1)
			if err != nil || lost.Won || lost.Now.Modified != won.Header.Revision || !bytes.Equal(lost.Now.Bytes, value) {
				t.Fatalf("member %d, value %d, again: %+v, %v", i, n, lost, err)
			}
			wrong := etcd.Txn{Key: key, Old: append([]byte("x"), value...), Revision: lost.Now.Modified, New: []byte("wrong")}
			if r, err := conn.Txn(t.Context(), wrong); err != nil || r.Won {
				t.Fatalf("another value at the same revision was replaced: %+v, %v", r, err)
			}
			last = lost.Now
			read, err := conn.Range(t.Context(), key, 0)
			if err != nil || read.Value.Modified != last.Modified || !bytes.Equal(read.Value.Bytes, value) {
				t.Fatalf("member %d, value %d, read: %+v, %v", i, n, read, err)
			}
		}
	}
	first, err := dial(t, c.Signer, c.Endpoints()[0]).Range(t.Context(), key, last.Created)
	if err != nil || string(first.Value.Bytes) != "a" {
		t.Errorf("the first value was %q: %v", first.Value.Bytes, err)
	}
}

// What a member refuses was not executed, and the connection goes on.
func TestRefused(t *testing.T) {
	c := etcdtest.Shared(t)
	conn := dial(t, c.Signer, c.Endpoints()[0])
	for _, f := range []struct {
		what string
		code int
		txn  etcd.Txn
	}{
		{"another's key", etcd.CodePermission, etcd.Txn{Key: "/other", New: []byte("v")}},
		{"no key", 3, etcd.Txn{New: []byte("v")}},
		{"too large", 3, etcd.Txn{Key: c.Prefix(), New: make([]byte, 3<<19)}},
	} {
		_, err := conn.Txn(t.Context(), f.txn)
		e, ok := errors.AsType[*etcd.Error](err)
		if !ok || e.Code != f.code || !errors.Is(err, etcd.ErrNotSent) {
			t.Errorf("%s: %v", f.what, err)
		}
	}
	if _, err := conn.Range(t.Context(), c.Prefix(), 1<<40); err == nil || errors.Is(err, etcd.ErrNotSent) {
		t.Errorf("a revision of the future: %v", err)
	}
	if _, err := conn.Range(t.Context(), c.Prefix(), 0); err != nil {
		t.Errorf("after refusals: %v", err)
	}
	if alarms, err := conn.Alarms(t.Context()); err != nil || len(alarms.Alarms) > 0 {
		t.Errorf("alarms %+v: %v", alarms, err)
	}
	members, err := conn.Members(t.Context())
	if err != nil || len(members.Members) != len(c.Endpoints()) || members.Members[0].ClientURLs == nil || members.Members[0].Learner {
		t.Errorf("members %+v: %v", members, err)
	}
	user, err := conn.User(t.Context(), "signer")
	if err != nil || len(user.Roles) != 1 {
		t.Fatalf("the signer's roles are %q: %v", user.Roles, err)
	}
	role, err := conn.Role(t.Context(), user.Roles[0])
	if err != nil || len(role.Permissions) != 1 || role.Permissions[0] != (etcd.Permission{Read: true, Write: true, Key: "/privyseal/", End: "/privyseal0"}) {
		t.Errorf("the signers' role is %+v: %v", role, err)
	}
	if _, err := conn.User(t.Context(), "root"); err == nil {
		t.Error("the signer may ask for another's roles")
	}
}

// A call ends with its context, and the connection with it.
func TestContext(t *testing.T) {
	c := etcdtest.Shared(t)
	conn := dial(t, c.Signer, c.Endpoints()[0])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := conn.Status(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, etcd.ErrNotSent) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if _, err := conn.Status(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// Who is not known to the members, or does not know them, does not get to ask.
func TestStrangers(t *testing.T) {
	c := etcdtest.Shared(t)
	stranger := etcdtest.NewCA(t)
	mixed, unknown := c.Signer, stranger.Client(t, "signer")
	mixed.CA, unknown.CA = stranger.File, c.CA.File
	for what, files := range map[string]etcdtest.Files{
		"another CA's member": mixed,
		"another CA's client": unknown,
		"expired":             c.CA.Client(t, "signer", etcdtest.Expired),
	} {
		d := etcd.Dialer{TLS: files.Config}
		conn, err := d.Dial(t.Context(), c.Endpoints()[0])
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, etcd.ErrNotSent) {
			t.Errorf("%s: %v", what, err)
		}
		t.Log(err)
	}
}
