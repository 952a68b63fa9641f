package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/privval"
)

const (
	hostBatches = 40
	hostKills   = 6
	stepsAfter  = 4 // that are looked at after a signer was killed
	answerMax   = 4 * time.Millisecond
	noGap       = 50 * time.Millisecond
)

// hosts compares signers that share a mark in etcd with one that has it in a file, from
// request to reply; beside them stands Horcrux, where two of three cosigners sign.
func (b *bench) hosts(ctx context.Context) ([]row, error) {
	return b.onEtcd(ctx, "hosts", etcdtest.Options{}, func(h *harness, c *etcdtest.Cluster) []row {
		order := from(c, c.Leader(h))
		file, lone, three := h.newFile(), h.newHosts(c, "lone", order, 1), h.newHosts(c, "three", order, 3)
		cosigners := h.newHorcrux()
		var inFile, one, first, each, peer, peerFirst, peerEach samples
		turns := []func() error{
			func() error { return file.votes(&inFile, new(samples)) },
			func() error { return lone.votes(&one, new(samples)) },
			func() error { return three.votes(&first, &each) },
		}
		if cosigners != nil {
			alone := &group{signers: cosigners.signers[:1], asked: cosigners.asked[:1], peer: true}
			turns = append(turns, func() error { return alone.votes(&peer, new(samples)) },
				func() error { return cosigners.votes(&peerFirst, &peerEach) })
		}
		h.must(byTurns(ctx, turns, hostBatches))
		fmt.Printf("refused to one signer: %d, to three: %d\n", lone.refused, three.refused)
		rows := []row{
			atMost(8, "one signer, mark in etcd: request to reply, p50", one, 50, "mark in a file", inFile),
			beside("the same, p99", one, 99, "mark in a file", inFile),
			atMost(2.2, "three signers asked at once: first signature, p50", first, 50, "one signer", one),
			atMost(2.6, "the same: each answer, p50", each, 50, "one signer", one),
			beside("the same, p99", each, 99, "one signer", one),
			within("three signers: each answer, p50", each.p(50), answerMax),
		}
		if cosigners != nil {
			fmt.Printf("Horcrux, 2 of 3, p50 and p99: one node asks %s; three at once: first signature %s, each answer %s; refused %d, and for good %d\n",
				both(peer), both(peerFirst), both(peerEach), cosigners.refused, cosigners.unsigned)
			rows = append(rows,
				beside("one signer, mark in etcd, p50", one, 50, "Horcrux, 2 of 3, one node asks", peer),
				beside("the same, p99", one, 99, "Horcrux, 2 of 3, one node asks", peer),
				beside("three signers: first signature, p50", first, 50, "Horcrux, 2 of 3", peerFirst),
				beside("the same: each answer, p50", each, 50, "Horcrux, 2 of 3", peerEach),
				beside("the same, p99", each, 99, "Horcrux, 2 of 3", peerEach))
		}
		return append(rows, h.kills(three, cosigners)...)
	})
}

// within returns a row that bounds a time.
func within(what string, measured, most time.Duration) row {
	return row{what: what, measured: micros(measured), reference: "-", ratio: "-", bound: "≤ " + micros(most), ok: measured <= most}
}

// kills measures what the others sign when one of three is killed as they are asked.
func (h *harness) kills(three, cosigners *group) []row {
	after, until := h.killed(three)
	fmt.Printf("until the others' next step is signed after a kill: %v\n", until)
	rows := []row{
		within(fmt.Sprintf("a signer of three is killed, %d times: slowest of the other sentries' next steps", hostKills), after.p(100), noGap),
	}
	if cosigners != nil {
		_, peers := h.killed(cosigners)
		fmt.Printf("the same, Horcrux: %v\n", peers)
		rows = append(rows, beside("the same: until their step is signed, median", until, 50, "a cosigner of Horcrux", peers),
			beside("the same, the longest", until, 100, "a cosigner of Horcrux", peers))
	}
	return rows
}

// killed kills each signer by turns. It returns what the answers to the other nodes took,
// and how long the first of them waited for its next signature.
func (h *harness) killed(g *group) (answers, until samples) {
	for i := range hostKills {
		s := g.signers[i%len(g.signers)]
		s.p.cmd.Process.Kill()
		for step := range stepsAfter {
			waited, err := g.insist(s, &answers)
			h.must(err)
			if step == 0 {
				until = append(until, waited)
			}
		}
		s.p.cmd.Wait()
		s.n.conn.Close()
		h.must(s.start())
		h.must(g.votes(new(samples), new(samples)))
	}
	return answers, until
}

// group is signers of one key, and their nodes: one each.
type group struct {
	signers []*host
	asked   []privval.Request // the vote that each node asks for
	refused int               // answers that were no signatures

	// peer is for Horcrux: signatures of one vote may differ, and it may refuse a vote for
	// good, which is left out then.
	peer     bool
	unsigned int // votes that were left out
}

// host is where a signer of a group runs.
type host struct {
	n     *node
	p     *process
	begin func() (*process, error)
}

// start starts the signer and waits for it at the node.
func (s *host) start() (err error) {
	if s.p, err = s.begin(); err != nil {
		return err
	}
	if err = s.n.accept(); err == nil {
		err = s.n.greet()
	}
	if err != nil {
		return s.p.failed(err)
	}
	return nil
}

func (s *host) end() {
	s.p.kill()
	s.n.close()
}

// newFile starts a signer with its mark in a file.
func (h *harness) newFile() *group {
	home, err := h.b.newHome(h.ctx, "file", "file")
	h.must(err)
	n, err := h.b.newNode("file")
	h.must(err)
	return h.group(&host{n: n, begin: func() (*process, error) { return home.start(h.ctx) }})
}

// group starts signers, which end with the section. Some of them sign nothing before the
// others are there.
func (h *harness) group(signers ...*host) *group {
	errs := make([]error, len(signers))
	var wait sync.WaitGroup
	for i, s := range signers {
		wait.Go(func() { errs[i] = s.start() })
	}
	wait.Wait()
	for _, s := range signers {
		if s.p != nil {
			h.Cleanup(s.end)
		}
	}
	h.must(errors.Join(errs...))
	return &group{signers: signers, asked: make([]privval.Request, len(signers))}
}

// newHosts starts signers that share a mark, each by another member first.
func (h *harness) newHosts(c *etcdtest.Cluster, chain string, endpoints []string, count int) *group {
	var list []*host
	key := ""
	for i := range count {
		b := h.elsewhere(fmt.Sprintf("%s-%d", chain, i+1))
		home := &home{b: b, dir: b.path("home")}
		args := []string{"--store", "etcd", "--etcd-ca-file", c.Signer.CA, "--etcd-certificate-file", c.Signer.Certificate, "--etcd-key-file", c.Signer.Key}
		for n := range endpoints {
			args = append(args, "--etcd-endpoints", endpoints[(i+n)%len(endpoints)])
		}
		if key == "" {
			key = filepath.Join(home.dir, "keys", chain+".key")
		} else {
			args = append(args, "--import-key", key, "--join-state", "--yes")
		}
		h.must(home.init(h.ctx, chain, args...))
		h.must(home.moveMetrics())
		n, err := b.newNode(chain)
		h.must(err)
		list = append(list, &host{n: n, begin: func() (*process, error) { return home.start(h.ctx) }})
	}
	return h.group(list...)
}

// elsewhere returns a bench for another host: with folders of its own, and a program that
// remembers its signers in another place.
func (h *harness) elsewhere(name string) *bench {
	b := *h.b
	b.dir, b.sockets = h.b.path(name), h.b.socket(name)
	h.must(errors.Join(os.Mkdir(b.dir, 0o700), os.Mkdir(b.sockets, 0o700)))
	b.privyseal = b.path("privyseal")
	h.must(os.WriteFile(b.privyseal, fmt.Appendf(nil, "#!/bin/sh\nPRIVYSEAL_RUN=%s exec %s \"$@\"\n", b.sockets, h.b.privyseal), 0o700))
	return &b
}

// votes has all nodes ask for the same votes at the same time, one after the other. It adds
// when the first node had each, and when every node had it.
func (g *group) votes(first, each *samples) error {
	for range batchSize {
		waited, err := g.insist(nil, each)
		if err != nil && g.peer {
			g.unsigned++
			continue
		}
		if err != nil {
			return err
		}
		*first = append(*first, waited)
	}
	return nil
}

// turn goes on to the next vote of the first node.
func (g *group) turn() {
	height, kind := g.signers[0].n.height, g.signers[0].n.kind
	for i, s := range g.signers {
		s.n.height, s.n.kind = height, kind
		g.asked[i] = s.n.next() // a moment after the one before, as with nodes
	}
}

// insist asks for the next vote, without a node, until one of the others has it. It returns
// how long that took.
func (g *group) insist(without *host, each *samples) (time.Duration, error) {
	g.turn()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		asked := time.Since(start)
		var first samples
		err := g.vote(without, &first, each)
		if err == nil {
			return asked + first[0], nil
		}
		if asked > 30*time.Second || g.peer && asked > 10*time.Second {
			return 0, err
		}
	}
}

// vote has the nodes ask, all but one. What is refused is counted; it is an error where
// none of them has a signature.
func (g *group) vote(without *host, first, each *samples) error {
	type answer struct {
		took time.Duration
		resp privval.Response
		err  error
	}
	answers := make(chan answer, len(g.signers))
	start, asked := time.Now(), 0
	for i, s := range g.signers {
		if s == without {
			continue
		}
		asked++
		s.n.conn.SetDeadline(start.Add(10 * time.Second))
		go func() {
			resp, err := s.n.call(g.asked[i])
			answers <- answer{time.Since(start), resp, err}
		}()
	}
	var took samples
	var signatures [][]byte
	var failed error
	for range asked {
		a := <-answers
		if a.err != nil {
			g.refused++
			failed = a.err
			continue
		}
		took, signatures = append(took, a.took), append(signatures, a.resp.Signature)
	}
	if len(took) == 0 {
		return failed
	}
	if !g.peer && slices.ContainsFunc(signatures, func(s []byte) bool { return !bytes.Equal(s, signatures[0]) }) {
		return fmt.Errorf("two signatures of %s, %v at height %d: %x", g.signers[0].n.chain, g.asked[0].Kind, g.asked[0].Height, signatures)
	}
	*first, *each = append(*first, slices.Min(took)), append(*each, took...)
	return nil
}
