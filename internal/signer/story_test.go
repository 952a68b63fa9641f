package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// answerTime is how long a session gives a request.
const answerTime = 4 * time.Second

// TestStories plays testdata/stories.txt, which explains itself.
func TestStories(t *testing.T) { playFile(t, "testdata/stories.txt", 30) }

// TestIncidents plays what cost others their stake.
func TestIncidents(t *testing.T) { playFile(t, "testdata/incidents.txt", 12) }

func playFile(t *testing.T, file string, atLeast int) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stories := strings.Split(string(raw), "\nstory ")[1:]
	for _, story := range stories {
		title, lines, _ := strings.Cut(story, "\n")
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlayer(t)
				for line := range strings.Lines(lines) {
					line = strings.TrimSpace(line)
					if line != "" && line[0] != '#' {
						p.play(line)
					}
				}
				p.key.letGo()
				synctest.Wait()
				p.ledger.check(t)
			})
		})
	}
	if len(stories) < atLeast {
		t.Errorf("only %d stories", len(stories))
	}
}

// player holds the world of one story.
type player struct {
	t      *testing.T
	line   string
	store  *storetest.Fake
	c      signer.Config
	signer *signer.Signer
	key    *testKey
	ledger *ledger
	last   signer.Event
}

func newPlayer(t *testing.T) *player {
	p := &player{t: t, key: newTestKey(), ledger: newLedger()}
	p.key.durable = func() watermark.Mark { return p.store.Saved().Mark }
	p.c = signer.Config{
		ChainID: chain, Key: p.key, PubKey: privval.PubKey{Type: "ed25519", Bytes: p.key.pub()},
		Verify: p.key.verify, Nodes: 1, Observe: func(e signer.Event) { p.last = e },
	}
	return p
}

func (p *player) fatalf(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s: %s", p.line, fmt.Sprintf(format, args...))
}

func (p *player) play(line string) {
	p.t.Helper()
	p.line = line
	words := strings.Fields(line)
	switch words[0] {
	case "nodes":
		p.c.Nodes = int(number(p.t, words[1]))
	case "max":
		p.c.Heights.Max = number(p.t, words[1])
	case "state":
		p.setState(words[1:])
	case "start":
		p.start(words[1:])
	case "store":
		p.store.Script(outcomesOf(p.t, words[1:])...)
	case "key":
		p.key.script(words[1:])
	case "put":
		p.store.Put(markOf(p.t, words[1:]))
	case "wait":
		time.Sleep(duration(p.t, words[1]))
	case "together":
		p.together(strings.TrimPrefix(line, "together "))
	default:
		ask, want, _ := strings.Cut(line, " -> ")
		p.ask(strings.Fields(ask), want)
	}
}

func (p *player) setState(words []string) {
	p.store = storetest.NewFake(watermark.Mark{})
	switch words[0] {
	case "missing":
		p.store.Script(slices.Repeat([]storetest.Outcome{storetest.Before}, 100)...)
	case "fresh":
	default:
		p.store = storetest.NewFake(markOf(p.t, words))
	}
}

// start starts the process, again if there was one: on the same state, through
// a store that knows nothing of the last one.
func (p *player) start(want []string) {
	p.t.Helper()
	if p.signer != nil {
		p.store = p.store.Another()
	}
	s, err := signer.New(p.t.Context(), p.c)
	if len(want) > 0 && want[0] == "refused" {
		if err == nil {
			p.fatalf("it started")
		}
		return
	}
	_ = s
	p.fatalf("unreachable")
}

// ask has a node ask, and compares what becomes of it.
func (p *player) ask(words []string, want string) {
	p.t.Helper()
	want, after, timed := strings.Cut(want, " after ")
	begin := time.Now()
	before := p.store.Saved().Mark
	got := p.outcome(words[0], request(p.t, words[1:]))
	if got != want {
		p.fatalf("got %q (%v)", got, p.last.Err)
	}
	if took := time.Since(begin); timed && took != duration(p.t, after) || !timed && took != 0 {
		p.fatalf("took %v", took)
	}
	if now := p.store.Saved().Mark; now.Less(before) {
		p.fatalf("the mark fell from %v to %v", before, now)
	}
}
