package etcd

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/provider"
)

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(m)) }

// What real members say of themselves, one that is stopped and a learner among them.
func TestLook(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{})
	at := &cluster{Endpoints: c.Endpoints(), CAFile: c.Signer.CA, CertificateFile: c.Signer.Certificate, KeyFile: c.Signer.Key}
	look := func() (seen provider.Cluster) {
		at.lookAt(context.Background(), &seen)
		return seen
	}
	seen, leaders := look(), 0
	for i, m := range seen.Members {
		if m.Address != at.Endpoints[i] || m.Failed != "" || !m.Led || m.Took <= 0 || m.Size == 0 || m.Version == "" || time.Until(m.Expires) <= 0 {
			t.Errorf("%+v", m)
		}
		if m.Leader {
			leaders++
		}
	}
	if len(seen.Members) != 3 || leaders != 1 || seen.Voters != 3 || len(seen.Alarms) != 0 {
		t.Errorf("%+v", seen)
	}
	c.Kill(1)
	seen = look()
	if seen.Members[0].Failed != "" || seen.Members[1].Failed == "" || seen.Members[2].Failed != "" || seen.Voters != 3 {
		t.Errorf("with one member less: %+v", seen)
	}
}

func TestShown(t *testing.T) {
	m := member{endpoint: "https://a", Status: etcd.Status{Version: "3.7.3", Learner: true, Leader: 1}}
	if s := m.shown(nil); s.Failed == "" || s.Version != "3.7.3" {
		t.Errorf("a learner: %+v", s)
	}
	if s := m.shown(errors.New("gone")); s.Failed != "gone" || s.Version != "" || s.Led {
		t.Errorf("one that does not answer: %+v", s)
	}
}
