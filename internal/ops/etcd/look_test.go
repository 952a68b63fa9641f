package etcd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
)

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(m)) }

// What real members say of themselves, one that is stopped and a learner among them.
func TestLook(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{})
	at := &cluster{Endpoints: c.Endpoints(), CAFile: c.Signer.CA, CertificateFile: c.Signer.Certificate, KeyFile: c.Signer.Key}
	world := &config.Config{Tables: map[string]map[string]config.Section{table: {"main": at}}}
	seen, leaders := look(t.Context(), world, "main"), 0
	for i, m := range seen.Members {
		if m.Address != at.Endpoints[i] || m.Failed != "" || !m.Led || m.Took <= 0 || m.Size == 0 || m.Version == "" || time.Until(m.Expires) <= 0 {
			t.Errorf("%+v", m)
		}
		if m.Leader {
			leaders++
		}
	}
	if len(seen.Members) != 3 || leaders != 1 || seen.Voters != 3 || seen.Alarms == nil || len(seen.Alarms) != 0 || time.Until(seen.Expires) <= 0 {
		t.Errorf("%+v", seen)
	}
	gone := c.Follower(t)
	c.Pause(t, gone)
	if !soon(t, world, gone) {
		t.Error("a member that hangs hides what the others say")
	}
	c.Kill(gone)
	if !soon(t, world, gone) {
		t.Error("a member that is gone hides what the others say")
	}
	at.CertificateFile = filepath.Join(t.TempDir(), "client.pem")
	seen = look(t.Context(), world, "main")
	if seen.Problem != "" || len(seen.Members) != 3 || !seen.Expires.IsZero() {
		t.Errorf("without a certificate: %+v", seen)
	}
	for i, m := range seen.Members {
		if i != gone && !strings.Contains(m.Failed, "cannot read our certificate") {
			t.Errorf("without a certificate: %+v", m)
		}
	}
}

// soon reports whether one of a few looks, of which a busy machine may spoil some, finds all
// members well but one, and the answers that they have for it.
func soon(t *testing.T, c *config.Config, gone int) bool {
	for range 5 {
		seen := look(t.Context(), c, "main")
		ok := seen.Voters == 3 && seen.Alarms != nil
		for i, m := range seen.Members {
			ok = ok && (m.Failed != "") == (i == gone)
		}
		if ok {
			return true
		}
		t.Logf("%+v", seen)
	}
	return false
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
