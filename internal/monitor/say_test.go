package monitor

import (
	"errors"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"privyseal/internal/oplog"
	"privyseal/internal/session"
	"privyseal/internal/watermark"
)

// logFile counts the bytes that would be on a disk.
type logFile struct {
	mu   sync.Mutex
	text strings.Builder
}

func (f *logFile) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(line)
}

// A million refusals leave less than a MiB of log, and each is in the count of a
// line; so do a hundred thousand connections that come to nothing.
func TestRefusalsAreCountedNotWritten(t *testing.T) {
	file := &logFile{}
	logger := oplog.New(file, slog.LevelInfo, "text")
	m := New(logger.Logger, "v1")
	c := m.AddChain("chain-1", "chain-1")
	changed := c.AddNode("a", "unix:///a")
	refusal := &watermark.RefusedError{
		Reason: watermark.Conflict, Request: watermark.Mark{Height: 5, Step: watermark.StepPrevote}, Last: watermark.Mark{Height: 5, Step: watermark.StepPrevote},
	}
	const total, hangUps = 1_000_000, 100_000
	for range total {
		c.Note(Outcome{Node: "a", Kind: "prevote", Reason: "conflict_same_node", Err: refusal})
	}
	for i := range hangUps {
		changed(session.Parked, nil)
		if i%2 == 0 {
			changed(session.Serving, nil)
		}
		changed(session.Dialling, errors.New("it closed the connection "+strconv.Itoa(i)))
	}
	m.Flush()
	logger.Close()
	text := file.text.String()
	if len(text) >= 1<<20 || logger.Lost() > 0 {
		t.Errorf("%d bytes of log, %d lines lost", len(text), logger.Lost())
	}
	for msg, want := range map[string]int{"refused to sign": total, "serving the node": hangUps / 2, "lost the node": hangUps / 2} {
		said := strings.Count(text, `msg="`+msg+`"`)
		for _, again := range regexp.MustCompile(`msg="`+msg+`, again".* times=([0-9]+)`).FindAllStringSubmatch(text, -1) {
			n, _ := strconv.Atoi(again[1])
			said += n
		}
		if said != want {
			t.Errorf("%q is said %d times, of %d", msg, said, want)
		}
	}
	if !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "reason=conflict_same_node") {
		t.Error("the alarm is gone")
	}
}
