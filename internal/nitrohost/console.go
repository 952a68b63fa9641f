package nitrohost

import (
	"context"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// What an error shows of a console.
const (
	maxConsole  = 8 << 10 // bytes that are kept
	maxLines    = 25
	maxLineSize = 200
)

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	all []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, p[max(0, len(p)-maxConsole):]...)
	t.all = t.all[max(0, len(t.all)-maxConsole):]
	return len(p), nil
}

// escape is what moves a terminal's cursor and changes its colours.
var escape = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]")

// lines returns the last lines, without what is not printed.
func (t *tail) lines() (last []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range strings.Lines(escape.ReplaceAllString(strings.ToValidUTF8(string(t.all), ""), "")) {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			switch {
			case r == '\t':
				return ' '
			case unicode.IsPrint(r):
				return r
			}
			return -1
		}, line))
		if len(line) > maxLineSize {
			line = strings.ToValidUTF8(line[:maxLineSize], "") + "…"
		}
		if line != "" {
			last = append(last, line)
		}
	}
	return last[max(0, len(last)-maxLines):]
}

// startedCID is what nitro-cli says on stderr before it waits for the enclave.
var startedCID = regexp.MustCompile(`enclave-cid: ([0-9]+),`)

// readConsole reads the console of the enclave that nitro-cli is launching: nitro-cli waits
// for a sign of life, ends an enclave that gives none, and the console with it. What cannot
// be read is left out: the launch is not about it.
func (l *Launcher) readConsole(ctx context.Context, p *process, to io.Writer) {
	tick := time.NewTicker(20 * time.Millisecond) // a growing file cannot be waited for
	defer tick.Stop()
	for {
		stderr, err := contents(p.stderr)
		if err != nil {
			return
		}
		if m := startedCID.FindSubmatch(stderr); m != nil {
			if cid, err := strconv.ParseUint(string(m[1]), 10, 32); err == nil && l.copyConsole(ctx, p, uint32(cid), to) {
				return
			}
		}
		select {
		case <-p.done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// copyConsole reports whether the console could be dialled. It returns when nitro-cli has
// ended; of an enclave that failed, the rest is read.
func (l *Launcher) copyConsole(ctx context.Context, p *process, cid uint32, to io.Writer) bool {
	dial, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	console, err := l.DialConsole(dial, cid)
	if err != nil {
		return false
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(to, console)
	}()
	select {
	case <-p.done:
		if p.err != nil { // the rest of it
			select {
			case <-read:
			case <-time.After(time.Second):
			}
		}
	case <-ctx.Done():
	}
	console.Close()
	<-read
	return true
}
