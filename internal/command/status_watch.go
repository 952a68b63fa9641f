package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"privyseal/internal/monitor"
)

// watchPeriod is how often a status is drawn. Chains make a block in a second at best.
const watchPeriod = time.Second

// watchIt prints the status each second until SIGINT or SIGTERM, which are how it is
// meant to end. A signer that is gone is waited for.
func (s *statusCommand) watchIt(ctx context.Context, w io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if screenOf(w).redraws() && !s.json {
		io.WriteString(w, hideCursor)
		defer io.WriteString(w, showCursor)
	}
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for {
		snapshot, err := s.read(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, monitor.ErrNotRunning):
			return err
		}
		if err := s.draw(w, snapshot, err); err != nil {
			return err // nobody reads any more
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// draw prints one status, or why there is none.
func (s *statusCommand) draw(w io.Writer, snapshot monitor.Snapshot, problem error) (err error) {
	where := screenOf(w)
	switch {
	case s.json && problem != nil:
		return json.NewEncoder(w).Encode(map[string]string{"error": strings.ReplaceAll(problem.Error(), "\n", "; ")})
	case s.json:
		return json.NewEncoder(w).Encode(snapshot)
	case !where.redraws():
		_, err = fmt.Fprintln(w, watchPage(where, snapshot, problem, time.Now()))
		return err
	}
	// A line that ends in the last column would lose its last letter to clearLine.
	where.width--
	_, err = io.WriteString(w, where.over(watchPage(where, snapshot, problem, time.Now())))
	return err
}

// watchPage returns a status, or why there is none, with the time.
func watchPage(s screen, snapshot monitor.Snapshot, problem error, now time.Time) string {
	if problem != nil {
		return now.Format(time.TimeOnly) + "  " + s.paint(alarm, printable(problem.Error())) + "\n"
	}
	return now.Format(time.TimeOnly) + "  " + statusPage(s, snapshot, now)
}

// What is drawn over is neither cleared before nor scrolled, so that nothing
// flickers: each line clears what was after it (ECMA-48: CUP, EL, ED, and DECTCEM).
const (
	cursorHome = "\x1b[H"
	clearLine  = "\x1b[K"
	clearRest  = "\x1b[J"
	hideCursor = "\x1b[2J\x1b[?25l"
	showCursor = "\x1b[?25h"
)

// redraws reports whether the screen is a terminal that can be drawn over.
func (s screen) redraws() bool { return s.width > 0 && s.addressed }

// over returns what draws a page over the last one, as much of it as fits.
func (s screen) over(page string) string {
	var b strings.Builder
	b.WriteString(cursorHome)
	left := s.height - 1
	for line := range strings.Lines(page) {
		if left -= s.rows(line); s.height > 0 && left < 1 {
			b.WriteString("…" + clearLine + "\r\n")
			break
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + clearLine + "\r\n")
	}
	b.WriteString(clearRest)
	return b.String()
}

// rows returns how many rows of the screen a line takes.
func (s screen) rows(line string) int {
	n := utf8.RuneCountInString(line) - 1
	return 1 + max(0, n-1)/s.width
}
