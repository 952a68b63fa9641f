package hostlink

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// Line is what an enclave logs over LogPort, a JSON object a line: exactly one
// field is set. The enclave drops lines that nobody reads rather than wait.
type Line struct {
	Log   *LogRecord  `json:"log,omitempty"`
	Event *Event      `json:"event,omitempty"`
	Node  *NodeChange `json:"node,omitempty"`
}

// LogRecord is a log record. Attributes are in their order, as text.
type LogRecord struct {
	Level   slog.Level  `json:"level"`
	Message string      `json:"message"`
	Attrs   [][2]string `json:"attrs,omitempty"`
}

// Event is what became of one request of a node; the host makes its metrics of
// these.
type Event struct {
	ChainID  string `json:"chain_id"`
	Node     string `json:"node"`
	Kind     string `json:"kind"`
	Height   int64  `json:"height,omitempty"`
	Round    int32  `json:"round,omitempty"`
	Step     uint8  `json:"step,omitempty"`
	Reason   string `json:"reason,omitempty"`   // why it was refused for good
	Error    string `json:"error,omitempty"`    // the refusal, or what kept it from an answer
	Fault    string `json:"fault,omitempty"`    // what failed, where it was neither answered nor refused
	Repeated bool   `json:"repeated,omitempty"` // a recorded mark was signed again
	Unknown  int    `json:"unknown,omitempty"`  // fields that were passed over
	Nil      bool   `json:"nil,omitempty"`      // a vote for no block
	// SignBytes are those of a precommit that was signed with a mark in etcd: the host has no
	// record of it, and its witness has to know it from those of somebody else.
	SignBytes []byte `json:"sign_bytes,omitempty"`

	StoreErrors int `json:"store_errors,omitempty"` // how often the store failed

	// In whole milliseconds, and zero of a repeat.
	Queue time.Duration `json:"queue,omitempty"`
	Store time.Duration `json:"store,omitempty"`
	Sign  time.Duration `json:"sign,omitempty"`
	All   time.Duration `json:"all,omitempty"`
}

// NodeChange is a change of the connection to a node.
type NodeChange struct {
	ChainID string `json:"chain_id"`
	Node    string `json:"node"`
	State   string `json:"state"` // dialling, parked or serving
	Error   string `json:"error,omitempty"`
}

// maxLine bounds a line in bytes. What an enclave says is cut to a good deal
// less.
const maxLine = 16 << 10

// maxText is where texts in a line are cut, in bytes.
const maxText = 2 << 10

// Encode returns the line with its line feed.
func (l Line) Encode() ([]byte, error) {
	if l.Log != nil {
		l.Log.Message = cut(l.Log.Message)
		for i := range l.Log.Attrs {
			l.Log.Attrs[i][1] = cut(l.Log.Attrs[i][1])
		}
	}
	if l.Event != nil {
		l.Event.Error = cut(l.Event.Error)
	}
	b, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	if len(b) >= maxLine {
		return nil, fmt.Errorf("a log line of %d bytes", len(b))
	}
	return append(b, '\n'), nil
}

func cut(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// ReadLines reads lines until the stream ends and hands each to f. A line that
// is not one, or over the limit, ends it with an error: the enclave's program does
// not write such lines.
func ReadLines(r io.Reader, f func(Line)) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	for s.Scan() {
		var l Line
		if err := decodeStrict(s.Bytes(), &l); err != nil {
			return err
		}
		set := 0
		for _, is := range []bool{l.Log != nil, l.Event != nil, l.Node != nil} {
			if is {
				set++
			}
		}
		if set != 1 {
			return errors.New("a log line without a kind, or with several")
		}
		f(l)
	}
	return s.Err()
}
