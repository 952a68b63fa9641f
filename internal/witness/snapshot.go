package witness

import "time"

// Stopped is the state after another signer was proved.
const Stopped = "stopped"

// States returns all values of Snapshot.State.
func States() []string {
	return []string{waiting.String(), quarantined.String(), open.String(), Stopped}
}

// Snapshot is what `privyseal status --json` shows of a chain's witnesses.
type Snapshot struct {
	State   string    `json:"state"` // waiting, quarantine, open or stopped
	Detail  string    `json:"detail,omitempty"`
	Tip     int64     `json:"tip"` // 0: not known
	TipTime time.Time `json:"tip_time,omitzero"`
	Floor   int64     `json:"floor,omitempty"` // nothing is signed up to this height
	Lies    int       `json:"lies"`
	Sources []Source  `json:"witnesses"`
}

// Source is one witness.
type Source struct {
	Addr       string `json:"addr"`
	Answered   bool   `json:"answered"` // ever since the start
	Tip        int64  `json:"tip"`
	CatchingUp bool   `json:"catching_up"`
	Lies       int    `json:"lies"`
	Problem    string `json:"problem,omitempty"`
}

// Snapshot returns what is known now.
func (w *Watch) Snapshot() Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.bounds.Load()
	s := Snapshot{State: w.phase.String(), Detail: b.Hold + b.Stop + w.warning, Tip: w.tip, TipTime: w.tipAt, Floor: w.floor, Lies: w.lies}
	if w.phase == stopped {
		s.Detail = b.Stop
	}
	for _, src := range w.sources {
		s.Sources = append(s.Sources, Source{Addr: src.addr, Answered: src.looked, Tip: src.tip, CatchingUp: src.catchingUp, Lies: src.lies, Problem: src.problem})
	}
	return s
}
