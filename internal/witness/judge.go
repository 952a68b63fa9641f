package witness

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"privyseal/internal/watermark"
)

// judge looks at the votes of our validator in a commit. final says that no vote
// will be added to it. After an error the commit has to be judged again.
func (s *source) judge(ctx context.Context, c Commit, final bool) error {
	foreign := 0
	for _, v := range c.Votes {
		signBytes := c.signBytes(v)
		if !s.w.c.Verify(signBytes, v.Signature) {
			s.lie("claims a signature of ours that does not verify", c.Height)
			continue
		}
		m := watermark.Mark{Height: c.Height, Round: c.Round, Step: watermark.StepPrecommit, SignBytes: signBytes}
		if err := s.w.reach(ctx, m); err != nil {
			s.w.unjudged(c.Height)
			return fmt.Errorf("cannot tell whose the signature of our key at height %d is: %w", c.Height, err)
		}
		if !s.w.judgeOne(m, v, s.addr) {
			foreign++
		}
	}
	if final {
		s.w.looked(c.Height, foreign == 0)
	}
	return nil
}

// loadTime bounds a look at a shared mark.
const loadTime = time.Second

// reach loads a shared mark where that may explain a precommit of our key: whoever shares it
// raises it before he signs. The lock is not held meanwhile.
func (w *Watch) reach(ctx context.Context, m watermark.Mark) error {
	w.mu.Lock()
	load := w.load
	if _, found, _ := w.made.find(m); found || !w.newest.Less(m) && !w.bare(m) {
		load = nil
	}
	w.mu.Unlock()
	if load == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	now, err := load(ctx, m)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.newest.Less(now) && !(w.bare(now) && len(now.SignBytes) > 0) {
		return nil
	}
	w.newest = now
	if _, found, _ := w.made.find(now); !found && now.Step == watermark.StepPrecommit && len(now.SignBytes) > 0 {
		w.made.add(now, nil) // by one of us: its bytes count also when the mark has gone on
	}
	return nil
}

// bare reports whether the newest mark is at m, and its bytes are not known: it was loaded by
// who cannot see them, as the host of an enclave.
func (w *Watch) bare(m watermark.Mark) bool {
	return len(w.newest.SignBytes) == 0 && same(w.newest, m)
}

// unjudged notes that a witness answers, that the chain goes on, and that a commit has to be
// judged again: until then nothing of that ends a quarantine.
func (w *Watch) unjudged(height int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.unjudgedAt, w.answered, w.quietFrom, w.judgedAt = now, now, now, now
	if height > w.tip {
		w.tip, w.tipAt = height, now
	}
}

// looked notes a height whose final commit was looked at, and whether it is without us.
func (w *Watch) looked(height int64, without bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != quarantined || height <= w.startTip {
		return
	}
	w.judged, w.judgedAt = max(w.judged, height), time.Now()
	if without && len(w.clean) < QuarantineBlocks {
		w.clean[height] = true
		w.publish()
	}
}

// judgeOne judges a precommit that our key has signed, and reports whether a signer that
// shares our mark has made it, since we began.
func (w *Watch) judgeOne(m watermark.Mark, v Vote, addr string) (shared bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var proves bool
	var ours signed
	if w.phase == quarantined && m.Height > w.startTip {
		if shared = w.accounted(m); !shared {
			proves = w.isNew(m, time.Unix(v.Timestamp.Seconds, 0))
		}
	} else {
		ours, proves = w.unexplained(m)
	}
	if proves {
		w.stop(Proof{
			ChainID: w.c.ChainID, Height: m.Height, Round: m.Round, Phase: w.phase.String(), SignBytes: m.SignBytes, Signature: v.Signature,
			Ours: ours.mark.SignBytes, OursSignature: ours.sig, Witness: addr, Found: time.Now(),
		})
	}
	return shared
}

// isNew reports whether a precommit in a quarantine was made after it began. Who signed
// before us may have been in the middle of the next height; and below a shared mark, which
// is above the chain that a slow witness shows, stands what others had made by then.
func (w *Watch) isNew(m watermark.Mark, at time.Time) bool {
	switch {
	case w.load != nil && m.Less(w.mark):
		return at.After(w.begun.Add(clockSlack))
	case w.load != nil && !w.newest.Less(m) && len(w.newest.SignBytes) == 0:
		return false // others may have signed it, before the mark was raised over it
	}
	return m.Height > w.startTip+1 && !at.Before(w.begun.Add(-clockSlack))
}

// accounted reports whether a precommit is one by which the shared mark was raised since we
// began, or what it was at then. Not all below the mark is: after an adoption, or where an
// operator has raised it since, that may be far above the chain, and somebody else may be
// signing there.
func (w *Watch) accounted(m watermark.Mark) bool {
	s, found, _ := w.made.find(m)
	switch {
	case w.load == nil || m.Less(w.mark):
		return false
	case same(w.mark, m) && len(w.mark.SignBytes) > 0:
		return bytes.Equal(w.mark.SignBytes, m.SignBytes)
	case found:
		return bytes.Equal(s.mark.SignBytes, m.SignBytes)
	}
	return m.Less(w.newest) && len(w.newest.SignBytes) > 0
}

// unexplained reports whether neither the mark that was loaded nor what was signed
// since explains a precommit, and what we have signed there.
func (w *Watch) unexplained(m watermark.Mark) (ours signed, yes bool) {
	s, found, known := w.made.find(m)
	switch {
	case m.Height < w.judgeFrom:
		return signed{}, false // ours, as far as anybody can know
	case same(w.mark, m) && len(w.mark.SignBytes) > 0:
		return signed{mark: w.mark}, !bytes.Equal(w.mark.SignBytes, m.SignBytes)
	case found:
		return s, !bytes.Equal(s.mark.SignBytes, m.SignBytes)
	case !w.newest.Less(m):
		return signed{}, false
	}
	return signed{}, known
}

// same reports whether two marks are for one height, round and step.
func same(a, b watermark.Mark) bool { return !a.Less(b) && !b.Less(a) }

// lie counts a claim that is not true, and says so once in a while.
func (s *source) lie(what string, height int64) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	s.lies++
	w.lies++
	if s.lies&(s.lies-1) == 0 { // 1, 2, 4, 8, …
		w.c.Log.Warn("a witness made a false claim, which is ignored", "witness", s.addr, "what", what, "height", height, "times", s.lies)
	}
}
