package witness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"privyseal/internal/watermark"
)

// How many commits are looked at, at most: at the first look from the mark on, and of the
// newest; later of those that came since.
const (
	firstLook = 4
	maxLook   = 64
)

func (s *source) run(ctx context.Context) {
	defer s.client.Close()
	pause := eagerPause
	for {
		err := s.poll(ctx)
		if ctx.Err() != nil {
			return
		}
		switch held := s.report(err); {
		case held:
			pause = eagerPause
		case err != nil:
			pause = min(max(2*pause, pollPause), maxPause)
		default:
			pause = pollPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// report notes how an attempt went, and reports whether requests are held back.
func (s *source) report(err error) (held bool) {
	w, now := s.w, time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	problem := ""
	if err != nil {
		problem = clip(err.Error())
		s.failed, s.wrong = true, errors.Is(err, errWrongChain)
	} else {
		s.failed, s.wrong = false, false
	}
	if problem != s.problem {
		if problem != "" {
			w.c.Log.Warn("a witness cannot be used now", "witness", s.addr, "error", problem)
		} else {
			w.c.Log.Info("a witness answers", "witness", s.addr, "height", s.tip)
		}
		s.problem = problem
	}
	w.step(now)
	return w.phase == waiting || w.phase == quarantined
}

// clip bounds what somebody else's text can be part of.
func clip(s string) string {
	const most = 400
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// poll looks once at the node: its tip, and every commit since the last look.
func (s *source) poll(ctx context.Context) error {
	status, err := s.client.Status(ctx, s.w.c.ChainID)
	if err != nil {
		return err
	}
	if status.Height == 0 {
		s.noteTip(0, status.CatchingUp, time.Time{})
		return nil
	}
	// A tip counts once its commit was seen.
	if status.Height > s.seen {
		c, err := s.client.Commit(ctx, s.w.c.ChainID, status.Height)
		if _, no := errors.AsType[*rpcError](err); no {
			s.lie("claims a block without its commit", status.Height)
			return fmt.Errorf("cannot use the witness %s: it claims height %d, and %w", s.addr, status.Height, err)
		}
		if err != nil {
			return err
		}
		if err := s.judge(ctx, c, false); err != nil {
			return err
		}
		if err := s.lookBack(ctx, status.Height); err != nil {
			return err
		}
		s.w.refresh(ctx, status.Height)
		s.seen = status.Height
		s.noteTip(status.Height, status.CatchingUp, c.BlockTime)
		return nil
	}
	s.noteTip(s.seen, status.CatchingUp, time.Time{})
	return nil
}

// lookBack looks at the commits below the tip. They are final; that of the tip is
// only what this node has seen of it.
func (s *source) lookBack(ctx context.Context, tip int64) error {
	var heights []int64
	if s.next == 0 {
		mark := s.w.markHeight()
		for h := mark; h < mark+firstLook; h++ {
			heights = append(heights, h)
		}
		for h := tip - firstLook; h < tip; h++ {
			heights = append(heights, h)
		}
		slices.Sort(heights)
		heights = slices.Compact(heights)
	} else {
		for h := max(s.next, tip-maxLook); h < tip; h++ {
			heights = append(heights, h)
		}
	}
	for _, h := range heights {
		if h < 1 || h >= tip {
			continue
		}
		c, err := s.client.Commit(ctx, s.w.c.ChainID, h)
		if _, no := errors.AsType[*rpcError](err); no {
			continue // pruned
		}
		if err != nil {
			return err
		}
		if err := s.judge(ctx, c, true); err != nil {
			return err
		}
	}
	s.next = tip
	return nil
}

// noteTip takes over what the node says of its tip. blockTime is zero for a tip that
// was noted before.
func (s *source) noteTip(tip int64, catchingUp bool, blockTime time.Time) {
	w, now := s.w, time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	s.tip, s.catchingUp, s.looked, w.answered = tip, catchingUp, true, now
	if w.firstAnswer.IsZero() && !catchingUp {
		w.firstAnswer = now
	}
	at := now
	if !blockTime.IsZero() && blockTime.Before(now) {
		// By the clock that does not jump: the ceiling must not wait for the other one.
		at = now.Add(-now.Sub(blockTime))
	}
	if tip > w.tip {
		w.tip, w.tipAt, w.quietFrom = tip, at, now
	}
	if !catchingUp && tip > w.expected {
		w.expected, w.expectedAt = tip, at
		w.publish()
	}
}

// refresh loads a shared mark while requests are held back, before a tip is noted: if others
// have brought it as far as the chain, nothing is left out after the start. Where that
// fails, the older one makes us more careful.
func (w *Watch) refresh(ctx context.Context, tip int64) {
	w.mu.Lock()
	held := w.phase == waiting || w.phase == quarantined
	w.mu.Unlock()
	if held {
		w.reach(ctx, watermark.Mark{Height: tip})
	}
}

func (w *Watch) markHeight() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mark.Height
}
