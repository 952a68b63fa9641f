package sgxhost

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	maxLine = 400 // bytes of a line, the rest is cut
	maxLog  = 200 // lines of one enclave that are logged
	kept    = 12  // lines that an error may look at
)

// lines is what Gramine and the program print.
type lines struct {
	log *slog.Logger

	mu     sync.Mutex
	logged int
	last   []line
}

type line struct{ from, text string }

// from returns where one of both prints to.
func (l *lines) from(who string) io.Writer { return &printer{lines: l, who: who} }

// printer takes bytes, and hands on lines.
type printer struct {
	*lines
	who  string
	text []byte
}

// Write implements [io.Writer]; it never fails, or the process would get a SIGPIPE.
func (p *printer) Write(b []byte) (int, error) {
	for _, c := range b {
		switch {
		case c == '\n':
			p.add(p.who, clean(p.text))
			p.text = p.text[:0]
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

func (l *lines) add(who, text string) {
	if text == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = append(l.last, line{who, text})
	if len(l.last) > kept {
		l.last = l.last[1:]
	}
	if l.logged++; l.logged <= maxLog {
		l.log.Log(context.Background(), slog.LevelInfo, "the enclave's process: "+text, "from", who)
	}
}

// end says how much was not logged.
func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if more := l.logged - maxLog; more > 0 {
		l.log.Warn("the enclave's process has printed more than is logged", "lines", more)
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
