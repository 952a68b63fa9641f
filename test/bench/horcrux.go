package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	cmtprivval "github.com/cometbft/cometbft/privval"

	"privyseal/internal/privval"
	"privyseal/internal/secretconn"
)

const (
	horcrux      = "horcrux-v3.3.2"
	horcruxChain = "horcrux"
)

// newHorcrux starts three cosigners, two of which make a signature, each with a node. It
// returns nil if the program is not there.
func (h *harness) newHorcrux() *group {
	bin, err := output(h.ctx, filepath.Join(h.b.root, "scripts", "setup"), "bin")
	h.must(err)
	program := filepath.Join(bin, horcrux)
	if _, err := os.Stat(program); err != nil {
		leftOut("Horcrux: scripts/setup peers builds it")
		return nil
	}
	b := h.elsewhere(horcruxChain)
	key := b.path("key.json")
	cmtprivval.NewFilePV(cmted25519.GenPrivKey(), key, b.path("state.json")).Save()
	run := func(args ...string) {
		_, err := output(h.ctx, program, args...)
		h.must(err)
	}
	run("create-ed25519-shards", "--home", b.path("none"), "--chain-id", horcruxChain, "--key-file", key, "--threshold", "2", "--shards", "3", "--out", b.dir)
	run("create-ecies-shards", "--home", b.path("none"), "--shards", "3", "--out", b.dir)
	config := []string{"config", "init", "--threshold", "2"}
	for range 3 {
		l := h.listen(quietPort)
		config = append(config, "--cosigner", "tcp://"+l.Addr().String())
		l.Close()
	}
	var list []*host
	for i := range 3 {
		l := h.listen(func() int { return 0 })
		home := b.path(fmt.Sprintf("cosigner_%d", i+1))
		run(append(config, "--home", home, "--node", "tcp://"+l.Addr().String())...)
		list = append(list, &host{n: secureNode(horcruxChain, l), begin: func() (*process, error) {
			os.Remove(filepath.Join(home, "horcrux.pid")) // of one that was killed
			return start(h.ctx, program, "start", "--home", home)
		}})
	}
	g := h.group(list...)
	g.peer = true // each signature is made with other nonces
	return g
}

// quietPort returns one from which no connection starts, so that a cosigner finds it free
// when it comes back.
func quietPort() int { return 10000 + mathrand.IntN(20000) }

// listen listens on one of the ports, or a free one where that is 0.
func (h *harness) listen(port func() int) *net.TCPListener {
	var failed error
	for range 20 {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port()})
		if err == nil {
			return l
		}
		failed = err
	}
	h.must(failed)
	return nil
}

// secureNode returns a node that is reached by tcp.
func secureNode(chain string, l *net.TCPListener) *node {
	_, self, _ := ed25519.GenerateKey(rand.Reader)
	return &node{chain: chain, listen: l, decode: decodeAny, height: 1, kind: privval.KindPrevote,
		secure: func(c net.Conn) (net.Conn, error) { return secretconn.Client(c, self, "") }}
}
