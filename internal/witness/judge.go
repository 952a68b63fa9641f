package witness

import (
	"bytes"
	"time"

	"privyseal/internal/watermark"
)

// judge looks at the votes of our validator in a commit. final says that no vote
// will be added to it.
func (s *source) judge(c Commit, final bool) {
	ours := 0
	for _, v := range c.Votes {
		signBytes := c.signBytes(v)
		if !s.w.c.Verify(signBytes, v.Signature) {
			s.lie("claims a signature of ours that does not verify", c.Height)
			continue
		}
		ours++
		m := watermark.Mark{Height: c.Height, Round: c.Round, Step: watermark.StepPrecommit, SignBytes: signBytes}
		s.w.judgeOne(m, v, s.addr)
	}
	if final {
		s.w.looked(c.Height, ours == 0)
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

// judgeOne judges a precommit that our key has signed.
func (w *Watch) judgeOne(m watermark.Mark, v Vote, addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var proves bool
	var ours signed
	if w.phase == quarantined && m.Height > w.startTip {
		// Who signed before us may have been in the middle of the next height.
		proves = m.Height > w.startTip+1 && !time.Unix(v.Timestamp.Seconds, 0).Before(w.begun.Add(-clockSlack))
	} else {
		ours, proves = w.unexplained(m)
	}
	if !proves {
		return
	}
	w.stop(Proof{
		ChainID: w.c.ChainID, Height: m.Height, Round: m.Round, Phase: w.phase.String(), SignBytes: m.SignBytes, Signature: v.Signature,
		Ours: ours.mark.SignBytes, OursSignature: ours.sig, Witness: addr, Found: time.Now(),
	})
}

// unexplained reports whether neither the mark that was loaded nor what was signed
// since explains a precommit, and what we have signed there.
func (w *Watch) unexplained(m watermark.Mark) (ours signed, yes bool) {
	switch {
	case m.Height < w.judgeFrom || m.Less(w.mark):
		return signed{}, false // ours, as far as anybody can know
	case !w.mark.Less(m): // at the mark
		return signed{mark: w.mark}, len(w.mark.SignBytes) > 0 && !bytes.Equal(w.mark.SignBytes, m.SignBytes)
	}
	s, found, known := w.made.find(m)
	if found {
		return s, !bytes.Equal(s.mark.SignBytes, m.SignBytes)
	}
	return signed{}, known
}

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
