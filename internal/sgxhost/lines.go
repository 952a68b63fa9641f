package sgxhost

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"privyseal/internal/oplog"
)

const (
	maxLine = 400 // bytes of a line, the rest is cut
	maxLog  = 200 // lines of each, Gramine and the program, that are logged at once
	pace    = 20  // lines of each that are logged a minute, later
	kept    = 12  // lines of each that an error may look at
)

// lines is what Gramine and the program print.
type lines struct {
	log *slog.Logger
	now func() time.Time

	printers []*printer

	mu   sync.Mutex
	last []line
}

type line struct{ from, text string }

// from returns where one of both prints to.
func (l *lines) from(who string) io.Writer {
	p := &printer{lines: l, who: who, flood: oplog.NewFlood(maxLog, pace, time.Minute)}
	l.printers = append(l.printers, p)
	return p
}

// printer takes bytes, and hands on lines.
type printer struct {
	*lines
	who   string
	text  []byte
	flood *oplog.Flood
}

// Write implements [io.Writer]; it never fails, or the process would get a SIGPIPE.
func (p *printer) Write(b []byte) (int, error) {
	for _, c := range b {
		switch {
		case c == '\n':
			p.add()
		case len(p.text) < maxLine:
			p.text = append(p.text, c)
		}
	}
	return len(b), nil
}

// clean returns text without what moves a terminal.
func clean(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.TrimSpace(string(text)))
}

// add takes the text so far as a line.
func (p *printer) add() {
	l, who, text := p.lines, p.who, clean(p.text)
	p.text = p.text[:0]
	if text == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// One who prints much takes nothing from what the other has said.
	of := func(is line) bool { return is.from == who }
	if n := len(l.last) - len(slices.DeleteFunc(slices.Clone(l.last), of)); n == kept {
		oldest := slices.IndexFunc(l.last, of)
		l.last = slices.Delete(l.last, oldest, oldest+1)
	}
	l.last = append(l.last, line{who, text})
	ok, lost := p.flood.Allow(l.now())
	p.leftOut(lost)
	if ok {
		l.log.Log(context.Background(), slog.LevelInfo, "the enclave's process: "+text, "from", who)
	}
}

// leftOut says how many lines were not logged. An enclave runs for months: what it prints then
// is worth as much as its first words.
func (p *printer) leftOut(lines int) {
	if lines > 0 {
		p.log.Warn("the enclave's process prints more than is logged, lines were left out", "lines", lines, "from", p.who)
	}
}

// end takes what stands without the end of a line, and says how much was not logged. Nobody
// prints any more.
func (l *lines) end() {
	for _, p := range l.printers {
		p.add()
		p.leftOut(p.flood.Lost())
	}
}

// printed returns the last lines of one of both.
func (l *lines) printed(who string) (texts []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.last {
		if line.from == who {
			texts = append(texts, line.text)
		}
	}
	return texts
}
