package provider

import (
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/watermark"
)

// Verdict is what a row says of its subject.
type Verdict string

const (
	Good   Verdict = "ok"
	Unsure Verdict = "--" // worth reading, no failure
	Bad    Verdict = "FAIL"
)

// MarshalText gives a verdict the name that it has in JSON.
func (v Verdict) MarshalText() ([]byte, error) {
	return []byte(map[Verdict]string{Good: "ok", Unsure: "unsure", Bad: "fail"}[v]), nil
}

// Row is one line of what `privyseal check` prints, and one element of its JSON, whose
// keys and verdicts ("ok", "unsure", "fail") stay as they are.
type Row struct {
	Verdict Verdict `json:"verdict"`
	Chain   string  `json:"chain,omitempty"` // its name
	Check   string  `json:"check"`           // what was checked: "home", "state", …
	Node    string  `json:"node,omitempty"`
	Line    int     `json:"line,omitempty"` // in the config
	Text    string  `json:"text"`
	Cure    string  `json:"cure,omitempty"`
}

// Report collects the rows of one run of `privyseal check`.
type Report struct {
	Config *config.Config // nil before it is read
	Rows   []Row
	// ID returns what the mark of a chain is known by, the zero ID if its key cannot be read.
	// nil: no key can.
	ID func(ch config.Chain) watermark.ID

	// What is looked at; "" for the home folder as a whole.
	Chain, Node string
}

// Add adds a row about the home folder, or about the chain and node that are looked
// at. line is in the config, 0 for none. Without a cure of its own a row has that of the
// error in text.
func (r *Report) Add(v Verdict, line int, check, text, next string) {
	if next == "" {
		text, next = cure.Split(text)
	}
	r.Rows = append(r.Rows, Row{v, r.Chain, check, r.Node, line, text, next})
}

// Failed returns how many rows are [Bad].
func (r *Report) Failed() (n int) {
	for _, row := range r.Rows {
		if row.Verdict == Bad {
			n++
		}
	}
	return n
}
