package etcdtest

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// Fate is what becomes of a call on its way to a member. All but Pass are of the
// connection: nothing that comes later on it gets through.
type Fate int

const (
	// Pass is the fate of every call that no other is said for.
	Pass Fate = iota
	// Lose: the request does not get there. The connection stays open.
	Lose
	// LoseAnswer: it is executed, and the answer does not come. The connection stays open.
	LoseAnswer
	// Cut: the request does not get there, the connection ends.
	Cut
	// CutAnswer: it is executed, and the connection ends in place of the answer.
	CutAnswer
	// CutHalf: it is executed, and the connection ends in the middle of the answer.
	CutHalf
	// Hold: the request gets there at Release, whether somebody waits for it or not.
	Hold
	// Double: all is well; at Release all that the client sent so far on its connection
	// is sent once more on another one. It is the only fate after which a connection goes on.
	Double
)

// Proxy stands between clients and one member. With TLS it has a certificate of the
// member's CA, and shows the member that of one client, whoever connects.
type Proxy struct {
	URL string

	listener net.Listener
	dial     func() (net.Conn, error)
	wait     sync.WaitGroup

	mu       sync.Mutex
	fates    map[string][]Fate
	rule     func(method string) Fate
	conns    map[net.Conn]bool
	held     []func() error
	struck   chan Fate
	isClosed bool
}

// Proxy returns one to a member, which runs until the test ends.
func (c *Cluster) Proxy(t testing.TB, member int, client Files) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", c.host+":0")
	if err != nil {
		t.Fatal(err)
	}
	to := c.members[member].client
	p := &Proxy{URL: c.url(l.Addr().String()), listener: l, fates: map[string][]Fate{}, conns: map[net.Conn]bool{}, struck: make(chan Fate, 1000),
		dial: func() (net.Conn, error) { return net.Dial("tcp", to) }}
	if !c.options.Plain {
		p.secure(t, c, to, client)
	}
	p.wait.Go(p.serve)
	t.Cleanup(p.close)
	return p
}

func (p *Proxy) secure(t testing.TB, c *Cluster, to string, client Files) {
	t.Helper()
	own, err := c.CA.server([]string{c.host})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := own.Config()
	if err != nil {
		t.Fatal(err)
	}
	ours.NextProtos, ours.ClientAuth = []string{"h2"}, tls.RequireAndVerifyClientCert
	p.listener = tls.NewListener(p.listener, ours)
	p.dial = func() (net.Conn, error) {
		theirs, err := client.Config()
		if err != nil {
			return nil, err
		}
		theirs.NextProtos = []string{"h2"}
		return tls.Dial("tcp", to, theirs)
	}
}

// Next says what becomes of the next calls of a method, such as Txn.
func (p *Proxy) Next(method string, fates ...Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fates[method] = append(p.fates[method], fates...)
}

// Rule says what becomes of all calls that Next says nothing of; nil: they pass. It is
// called by one goroutine at a time.
func (p *Proxy) Rule(rule func(method string) Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = rule
}

// Struck waits until a call has met a fate other than Pass, and returns that: if it is
// one of the answer, the call was executed.
func (p *Proxy) Struck(t testing.TB) Fate {
	t.Helper()
	select {
	case f := <-p.struck:
		return f
	case <-t.Context().Done():
		t.Fatal("nothing was struck")
		return Pass
	}
}

// Release delivers what is held and what is to be repeated, and returns after the member
// has answered.
func (p *Proxy) Release(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	held := p.held
	p.held = nil
	p.mu.Unlock()
	for _, deliver := range held {
		if err := deliver(); err != nil {
			t.Fatal(err)
		}
	}
}

// Drop ends all connections.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// later has Release do something.
func (p *Proxy) later(deliver func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = append(p.held, deliver)
}

func (p *Proxy) strike(f Fate) {
	select {
	case p.struck <- f:
	default: // nobody asks
	}
}

func (p *Proxy) fateOf(method string) Fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if list := p.fates[method]; len(list) > 0 {
		p.fates[method] = list[1:]
		return list[0]
	}
	if p.rule != nil {
		return p.rule(method)
	}
	return Pass
}

// add notes a connection that ends with the proxy.
func (p *Proxy) add(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	if p.isClosed {
		c.Close()
	}
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.isClosed = true
	p.mu.Unlock()
	p.Drop()
	p.wait.Wait()
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.add(client)
		p.wait.Go(func() {
			defer client.Close()
			member, err := p.dial()
			if err != nil {
				return
			}
			p.add(member)
			l := &link{p: p, client: client, member: member, answered: make(chan struct{})}
			p.wait.Go(l.down)
			l.up()
		})
	}
}

// link is one connection of a client, and ours to the member.
type link struct {
	p              *Proxy
	client, member net.Conn

	sent     []byte // by the client and forwarded
	kept     []byte // a request that is held
	mu       sync.Mutex
	fate     Fate // of the connection
	stream   uint32
	answered chan struct{} // the member has answered what was held, or is gone
}

const (
	preface     = 24 // bytes that a client of HTTP/2 begins with
	frameData   = 0
	frameHeader = 1
	frameReset  = 3
	endStream   = 1
	padded      = 8
	priority    = 32
)

// frame is one of HTTP/2, with its head.
type frame []byte

func (f frame) kind() byte     { return f[3] }
func (f frame) flags() byte    { return f[4] }
func (f frame) stream() uint32 { return binary.BigEndian.Uint32(f[5:9]) }
func (f frame) ends() bool {
	return f.kind() == frameReset || (f.kind() == frameData || f.kind() == frameHeader) && f.flags()&endStream != 0
}

func readFrame(r io.Reader) (frame, error) {
	f := make(frame, 9)
	if _, err := io.ReadFull(r, f); err != nil {
		return nil, err
	}
	f = append(f, make([]byte, int(f[0])<<16|int(f[1])<<8|int(f[2]))...)
	_, err := io.ReadFull(r, f[9:])
	return f, err
}

// up forwards what the client sends.
func (l *link) up() {
	begin := make([]byte, preface)
	if _, err := io.ReadFull(l.client, begin); err != nil {
		l.member.Close()
		return
	}
	l.sent = append(l.sent, begin...)
	l.member.Write(begin)
	fields := hpack.NewDecoder(4096, nil)
	seen := uint32(0) // the newest stream
	for {
		f, err := readFrame(l.client)
		if err != nil {
			if l.is() != Hold {
				l.member.Close()
			}
			return
		}
		if f.kind() == frameHeader && f.stream() > seen && l.is() == Pass {
			seen = f.stream()
			l.begin(l.p.fateOf(methodOf(fields, f)), seen)
		}
		if !l.forward(f) {
			return
		}
	}
}

// methodOf returns the last part of a request's path.
func methodOf(fields *hpack.Decoder, f frame) (method string) {
	block := f[9:]
	if f.flags()&padded != 0 {
		block = block[1 : len(block)-int(block[0])]
	}
	if f.flags()&priority != 0 {
		block = block[5:]
	}
	list, _ := fields.DecodeFull(block)
	for _, field := range list {
		if field.Name == ":path" {
			method = path.Base(field.Value)
		}
	}
	return method
}

func (l *link) is() Fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fate
}

func (l *link) begin(fate Fate, stream uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fate, l.stream = fate, stream
}

// forward does with a frame of the client's what its fate is, and reports whether the
// connection goes on.
func (l *link) forward(f frame) bool {
	fate := l.is()
	ends := fate != Pass && f.stream() == l.stream && f.ends()
	switch fate {
	case Lose:
		if ends {
			l.p.strike(fate)
		}
		return true
	case Cut:
		l.client.Close()
		l.member.Close()
		l.p.strike(fate)
		return false
	case Hold:
		l.hold(f, ends)
		return true
	}
	l.sent = append(l.sent, f...)
	l.member.Write(f)
	if fate == Double && ends {
		l.double()
	}
	return true
}

// hold keeps a request; what comes on the connection after it is lost.
func (l *link) hold(f frame, ends bool) {
	if f.stream() == l.stream && (f.kind() == frameData || f.kind() == frameHeader) {
		l.kept = append(l.kept, f...)
	}
	if !ends {
		return
	}
	l.p.later(func() error {
		defer l.member.Close()
		if _, err := l.member.Write(l.kept); err != nil {
			return err
		}
		<-l.answered
		return nil
	})
	l.p.strike(Hold)
}

// double has all that the client sent so far sent again.
func (l *link) double() {
	again, stream := slices.Clone(l.sent), l.stream
	l.begin(Pass, 0)
	l.p.later(func() error {
		member, err := l.p.dial()
		if err != nil {
			return err
		}
		defer member.Close()
		member.SetDeadline(time.Now().Add(patience))
		if _, err := member.Write(again); err != nil {
			return err
		}
		for {
			f, err := readFrame(member)
			if err != nil || f.stream() == stream && f.ends() {
				return err
			}
		}
	})
	l.p.strike(Double)
}

// down forwards what the member answers.
func (l *link) down() {
	defer l.client.Close()
	defer close(l.answered)
	lost := false
	for {
		f, err := readFrame(l.member)
		if err != nil {
			return
		}
		l.mu.Lock()
		fate, answers := l.fate, l.fate != Pass && f.stream() == l.stream
		l.mu.Unlock()
		switch {
		case fate == Hold && answers && f.ends():
			l.client.Write(f)
			return
		case fate == CutHalf && answers && (f.kind() == frameData || f.ends()) && !lost:
			lost = true
			l.client.Write(f[:len(f)/2])
		case (fate == LoseAnswer || fate == CutAnswer) && answers:
			lost = true
		case !lost:
			l.client.Write(f)
		}
		if lost && answers && f.ends() {
			l.p.strike(fate)
			if fate != LoseAnswer {
				l.member.Close()
				return
			}
		}
	}
}
