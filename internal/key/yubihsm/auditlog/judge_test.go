package auditlog

import (
	"strings"
	"testing"

	"privyseal/internal/privval"
	"privyseal/yubihsm"
)

// Each story is what happens to a device, and what is to be found; a finding stands there
// with as many + as it has signatures or entries.
func TestJudge(t *testing.T) {
	asked := func(answered, lost uint32) Asked { return Asked{ours, answered, lost} }
	other := func(change func(*Ask)) Ask {
		a := ours
		change(&a)
		return a
	}
	for _, c := range []struct {
		name, want, text string
		story            func(w *world)
	}{
		{"all signatures are ours", "", "", func(w *world) {
			w.signs(3, ours)
			w.drains(asked(3, 0))
			w.signs(2, ours)
			w.drains(asked(2, 0))
			w.stops()
		}},
		{"one more with our own password", "foreign+", "of 122 bytes, made with authentication key 0x0004: 1 of entries 3, 4, 5", func(w *world) {
			w.signs(3, ours)
			w.drains(asked(2, 0))
		}},
		{"one of another length", "foreign+", "of 98 bytes, made with authentication key 0x0004: entry 5", func(w *world) {
			w.signs(2, ours)
			w.signs(1, other(func(a *Ask) { a.Length = 100 }))
			w.drains(asked(2, 0))
		}},
		{"with another authentication key", "foreign++", "authentication key 0x0009: entries 3, 4", func(w *world) {
			w.signs(2, other(func(a *Ask) { a.AuthKey = 9 }))
			w.drains()
		}},
		{"many", "foreign++++++++++", "0x0004: entries 3, 4, 5, 6, 7, 8, 9, 10 and 2 more", func(w *world) {
			w.signs(10, ours)
			w.drains()
		}},
		{"of another key, which is not ours", "", "", func(w *world) {
			w.signs(2, other(func(a *Ask) { a.Key = 7 }))
			w.drains()
		}},
		{"a refused one", "", "", func(w *world) {
			w.add(yubihsm.LogEntry{Command: yubihsm.CommandSignEdDSA, Length: vote, Session: 9, Target: ourKey, Second: 0xffff, Result: byte(yubihsm.InsufficientPermissions)})
			w.drains()
		}},
		{"a probe, which is too short for a vote", "", "", func(w *world) {
			w.signs(3, other(func(a *Ask) { a.Length, a.AuthKey = 2+maxProbe, 2 }))
			w.drains()
		}},
		{"one byte more is none", "foreign+", "of 13 bytes", func(w *world) {
			w.signs(1, other(func(a *Ask) { a.Length = 3 + maxProbe }))
			w.drains()
		}},
		{"a digest is no probe, however short", "foreign+", "", func(w *world) {
			w.signs(1, other(func(a *Ask) { a.Command, a.Length = yubihsm.CommandSignECDSA, 2 }))
			w.drains()
		}},
		{"a lost answer, and the device did sign", "", "", func(w *world) {
			w.signs(1, ours)
			w.drains(asked(0, 1))
		}},
		{"a lost answer, and the device signs later", "", "", func(w *world) {
			w.drains(asked(0, 1))
			w.signs(1, ours)
			w.drains()
		}},
		{"a lost answer stands for one signature, not two", "foreign+", "", func(w *world) {
			w.drains(asked(0, 1))
			w.signs(2, ours)
			w.drains()
		}},
		{"a lost answer, and the device never signs", "", "", func(w *world) {
			w.drains(asked(0, 1))
			w.signs(1, ours)
			w.drains(asked(1, 0))
			w.drains()
		}},
		{"counted before a stop, and read after the next start", "", "", func(w *world) {
			w.signs(2, ours)
			w.stops(asked(2, 0))
			w.begin()
			w.drains()
		}},
		{"between a stop and the next start", "foreign+", "", func(w *world) {
			w.stops()
			w.signs(1, ours)
			w.begin()
			w.drains()
		}},
		{"after a crash", "unmatched+++", "up to 3 signatures of key 0x0001 cannot be matched: the signer ended between", func(w *world) {
			w.signs(3, ours)
			w.kill()
			w.begin()
			w.signs(1, ours)
			w.drains(asked(1, 0))
		}},
		{"after a crash, with another authentication key", "unmatched+ foreign+", "", func(w *world) {
			w.signs(1, ours)
			w.signs(1, other(func(a *Ask) { a.AuthKey = 9 }))
			w.kill()
			w.begin()
			w.drains()
		}},
		{"the crash explains the first log only", "foreign+", "", func(w *world) {
			w.kill()
			w.begin()
			w.drains()
			w.signs(1, ours)
			w.drains()
		}},
		{"entries are read twice after a crash", "unmatched++", "", func(w *world) {
			w.signs(2, ours)
			w.reads(asked(2, 0)) // durable, and not forgotten
			w.kill()
			w.signs(2, ours)
			w.begin()
			w.drains()
		}},
		{"the device does not log what it signs", "missing++", "lacks 2 signatures of key 0x0001 that the device made for us: it does not log that command", func(w *world) {
			w.drains(asked(2, 0))
			w.drains()
		}},
		{"logged with the next look", "", "", func(w *world) {
			w.drains(asked(2, 0))
			w.signs(2, ours)
			w.drains()
			w.drains()
		}},
		{"the oldest entries were overwritten", "gap++++ missing++++", "4 entries are missing between 2 and 7", func(w *world) {
			w.signs(5, ours)
			w.entries = w.entries[4:]
			w.drains(asked(5, 0))
		}},
		{"the device was reset", "gap", "the device was reset: entry 2 is followed by the first of a new log", func(w *world) {
			w.log = newLog(1)
			w.drains()
		}},
		{"another log with the next number", "gap", "entry 3 does not continue entry 2", func(w *world) {
			w.last.Digest[0]++
			w.signs(1, ours)
			w.drains(asked(1, 0))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin()
			w.drains()
			c.story(w)
			r := w.check()
			if kinds(r.Findings) != c.want {
				t.Errorf("found %q, not %q: %+v", kinds(r.Findings), c.want, r.Findings)
			}
			if kinds(w.said) != c.want {
				t.Errorf("the writer said %q", kinds(w.said))
			}
			if c.text != "" && !strings.Contains(r.Findings[0].Text, c.text) {
				t.Errorf("says %q", r.Findings[0].Text)
			}
		})
	}
}

// No message of a chain is as short as what probes sign: the shortest that a node can make,
// of a chain whose id is one character.
func TestProbesAreShorterThanMessages(t *testing.T) {
	shortest := 1000
	for _, kind := range []privval.Kind{privval.KindProposal, privval.KindPrevote, privval.KindPrecommit} {
		r := privval.Request{Kind: kind, ChainID: "c", Height: 1}
		shortest = min(shortest, len(r.SignBytes()), len(r.ExtensionSignBytes()))
	}
	if shortest != maxProbe+1 {
		t.Errorf("a message can have %d bytes, and up to %d are a probe", shortest, maxProbe)
	}
}

// What was logged before anybody counted says nothing.
func TestBefore(t *testing.T) {
	w := newWorld(t)
	w.signs(3, ours)
	w.begin()
	w.signs(2, ours)
	w.drains(Asked{ours, 2, 0})
	if r := w.check(); len(r.Findings) > 0 || r.Before != 3 || r.Matched != 2 || r.Signatures != 5 || !r.Running {
		t.Errorf("%+v", r)
	}
}

// A process that is killed before its first look at the log leaves what may be its own.
func TestKilledAtFirst(t *testing.T) {
	w := newWorld(t)
	w.begin()
	w.signs(2, ours)
	w.kill()
	w.begin()
	w.drains()
	if r := w.check(); kinds(r.Findings) != "unmatched++" || r.Before != 0 {
		t.Errorf("%+v", r)
	}
}

func TestUnlogged(t *testing.T) {
	w := newWorld(t)
	w.begin()
	w.signs(1, ours)
	w.w.Append(Batch{Time: w.now, Log: yubihsm.Log{UnloggedBoots: 2, UnloggedAuthentications: 3, Entries: w.entries}})
	r := w.check()
	if kinds(r.Findings) != "unlogged" || !strings.Contains(r.Findings[0].Text, "started 2 times and opened 3 sessions") || r.Bad() != 1 {
		t.Errorf("%+v", r)
	}
}
