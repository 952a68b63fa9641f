package daemon

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/monitor"
)

// hasSaid is a service that has said whether it signs, or never does.
type hasSaid struct {
	Service
	yes bool
}

func (s hasSaid) Settled(ctx context.Context) bool {
	if !s.yes {
		<-ctx.Done()
	}
	return s.yes
}

// An enclave that says nothing keeps systemd waiting, but not forever.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "s"))
	status := func() string {
		t.Helper()
		socket.SetReadDeadline(time.Now().Add(time.Minute))
		b := make([]byte, 256)
		n, err := socket.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		message, _, _ := strings.Cut(string(b[:n]), " ")
		return message
	}
	const waits, ready = "STATUS=0", "READY=1\nSTATUS=0"
	open := func(settled ...bool) *Daemon {
		log := slog.New(slog.DiscardHandler)
		d := &Daemon{Config: &config.Config{}, Log: log, Monitor: monitor.New(log, "test")}
		for _, s := range settled {
			d.services = append(d.services, hasSaid{yes: s})
		}
		return d
	}
	ended, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		name     string
		d        *Daemon
		patience time.Duration
		want     []string
	}{
		{"software keys only", open(), 0, []string{ready}},
		{"both enclaves have said it", open(true, true), time.Hour, []string{waits, ready}},
		{"one says nothing", open(true, false), time.Millisecond, []string{waits, ready}},
	} {
		c.d.announce(t.Context(), c.patience)
		for _, want := range c.want {
			if got := status(); got != want {
				t.Errorf("%s: %q, want %q", c.name, got, want)
			}
		}
	}
	if d := open(true, true); !d.settle(t.Context(), time.Hour) {
		t.Error("both enclaves have said it, and it waits on")
	}
	for _, d := range []*Daemon{open(true, false), open(false, true)} {
		if d.settle(t.Context(), time.Millisecond) || d.settle(ended, time.Hour) {
			t.Error("one enclave has not said it, and counts")
		}
	}
}
