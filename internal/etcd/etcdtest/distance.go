package etcdtest

import (
	"io"
	"net"
	"sync"
	"time"
)

// longLink carries bytes to an address, and back, each after the same time.
type longLink struct {
	listener net.Listener
	to       string
	oneWay   time.Duration
	wait     sync.WaitGroup

	mu     sync.Mutex
	ends   []net.Conn
	closed bool
}

func newLink(host, to string, oneWay time.Duration) (*longLink, error) {
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		return nil, err
	}
	l := &longLink{listener: listener, to: to, oneWay: oneWay}
	l.wait.Go(l.serve)
	return l, nil
}

func (l *longLink) addr() string { return l.listener.Addr().String() }

func (l *longLink) serve() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.to)
		if err != nil {
			near.Close()
			continue
		}
		l.add(near, far)
		l.wait.Go(func() { l.carry(far, near) })
		l.wait.Go(func() { l.carry(near, far) })
	}
}

func (l *longLink) add(ends ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, ends...)
	if l.closed {
		l.cut()
	}
}

func (l *longLink) cut() {
	for _, c := range l.ends {
		c.Close()
	}
}

func (l *longLink) close() {
	l.listener.Close()
	l.mu.Lock()
	l.closed = true
	l.cut()
	l.mu.Unlock()
	l.wait.Wait()
}

// carry moves what comes from one end to the other, its end too.
func (l *longLink) carry(to io.WriteCloser, from io.Reader) {
	type piece struct {
		b   []byte
		due time.Time
	}
	pieces := make(chan piece, 1024)
	l.wait.Go(func() {
		defer to.Close()
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			to.Write(p.b)
		}
	})
	for {
		b := make([]byte, 4096)
		n, err := from.Read(b)
		pieces <- piece{b[:n], time.Now().Add(l.oneWay)}
		if err != nil {
			close(pieces)
			return
		}
	}
}
