package daemon

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/monitor"
)

const (
	// What cannot be listened on is tried again after a pause between these two.
	minRelisten = time.Second
	maxRelisten = 30 * time.Second
)

// service is something that is listened on beside the nodes.
type service struct {
	name, addr string
	open       func() (net.Listener, error)
	serve      func(context.Context, net.Listener) error
	said       string // the last failure in the log
}

// listen serves the status socket and, if the config wants them, metrics, until stop
// is called. Neither signs, so that neither stops a signature: what cannot be
// listened on is said, and tried again.
func (d *Daemon) listen() (stop func()) {
	services := []*service{{
		name: monitor.StatusListener, addr: filepath.Join(d.Home, monitor.SocketName), serve: d.Monitor.ServeStatus,
		open: func() (net.Listener, error) { return monitor.ListenStatus(d.Home) },
	}}
	if addr := d.Config.Listen; addr != "" {
		services = append(services, &service{
			name: monitor.MetricsListener, addr: addr, serve: d.Monitor.ServeHTTP,
			open: func() (net.Listener, error) { return listenMetrics(addr) },
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, s := range services {
		l := d.tryListen(s) // before anybody hears that we are ready
		group.Go(func() { d.keepListening(ctx, s, l) })
	}
	return func() { cancel(); group.Wait() }
}

func listenMetrics(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for metrics: %w; free the address or change `listen` in %s", err, config.FileName)
	}
	return l, nil
}

// tryListen returns nil if it cannot listen, which is logged once for each reason.
func (d *Daemon) tryListen(s *service) net.Listener {
	l, err := s.open()
	d.Monitor.Listens(s.name, s.addr, err)
	switch {
	case err != nil && err.Error() != s.said:
		s.said = err.Error()
		d.Log.Error("cannot listen here, signing goes on; retrying", "listener", s.name, "addr", s.addr, "error", err)
	case err == nil && s.said != "":
		s.said = ""
		d.Log.Info("served again", "listener", s.name, "addr", s.addr)
	}
	return l
}

// keepListening serves l, and what is opened after it, until ctx ends.
func (d *Daemon) keepListening(ctx context.Context, s *service, l net.Listener) {
	pause := minRelisten
	for {
		if l != nil {
			err := s.serve(ctx, l)
			if ctx.Err() != nil {
				return
			}
			d.Monitor.Listens(s.name, s.addr, err)
			d.Log.Error("lost a listener, signing goes on", "listener", s.name, "addr", s.addr, "error", err)
			pause = minRelisten
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, maxRelisten)
		l = d.tryListen(s)
	}
}
