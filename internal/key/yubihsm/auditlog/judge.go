package auditlog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"privyseal/internal/cure"
	"privyseal/yubihsm"
)

// Kind is what a finding is about.
type Kind string

// Kinds of findings.
const (
	Foreign   Kind = "foreign"   // signatures that nobody of ours asked for
	Unmatched Kind = "unmatched" // signatures that may be ours: who asked ended without saying how many
	Missing   Kind = "missing"   // signatures that the device made and has not logged
	Gap       Kind = "gap"       // the device's entries do not continue
	Unlogged  Kind = "unlogged"  // what the device let happen while its log was full
	Damage    Kind = "damage"    // the file is not as it was written
	Torn      Kind = "torn"      // a crash cut a line off, and nothing is lost
)

// Bad reports whether a finding of the kind is one to act on.
func (k Kind) Bad() bool { return k != Unmatched && k != Torn }

// Finding is something to say about a log.
type Finding struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Count is how many signatures or entries it is about, 0 where that is unknown.
	Count int `json:"count,omitempty"`
	// Key is the object id of the key that signed, 0 where it is not about signatures.
	Key uint16 `json:"key,omitempty"`
	// Numbers are those of the entries among which they are.
	Numbers []uint16 `json:"entries,omitempty"`
	// Until is when the log was read that has them.
	Until time.Time `json:"until,omitzero"`
}

// judge hears the records of a device in order.
type judge struct {
	found func(Finding)

	last    yubihsm.LogEntry // zero: none yet
	any     bool             // entries
	at      time.Time        // of the last record that has a time
	running bool             // a process has started and not stopped
	// open says why the entries up to the next log may have signatures of ours that nobody
	// counted; "" if they cannot.
	open    string
	begun   bool // false: what comes up to the next log was made before the first record
	keys    map[uint16]bool
	ours    map[uint16]bool // authentication keys that we asked with
	batch   []yubihsm.LogEntry
	due     map[Ask]int // the device signed, and the log does not have it yet
	late    map[Ask]int // neither had the one before
	lost    map[Ask]int // the device may have signed, or may sign yet
	gap     bool        // in the batch
	entries int
	signed  int // signatures of our keys
	matched int
	probes  int
	before  int // signatures of our keys that were there before the first record
}

func newJudge(found func(Finding)) *judge {
	return &judge{found: found, keys: map[uint16]bool{}, ours: map[uint16]bool{}, due: map[Ask]int{}, late: map[Ask]int{}, lost: map[Ask]int{}}
}

// record hears one record, other than a head.
func (j *judge) record(r record) {
	switch r.word {
	case wordStart:
		j.start(r)
	case wordKey:
		j.keys[uint16(r.numbers[0])] = true
	case wordEntry:
		j.entry(r.entry())
	case wordAsked:
		a := r.asked()
		j.ours[a.AuthKey], j.keys[a.Key] = true, true
		j.due[a.Ask] += int(a.Answered)
		j.lost[a.Ask] += int(a.Lost)
	case wordLog:
		j.log(r)
	case wordStop:
		j.at, j.running = r.at, false
	}
}

func (j *judge) start(r record) {
	if j.running {
		j.open = fmt.Sprintf("the signer ended between %s and %s without saying how many it had asked for", stamp(j.at), stamp(r.at))
	}
	j.ours[uint16(r.numbers[0])] = true
	j.at, j.running = r.at, true
}

// entry hears what the device has logged, and whether it continues.
func (j *judge) entry(e yubihsm.LogEntry) {
	if j.any && !e.Follows(j.last) {
		j.gap = true
		f := Finding{Kind: Gap, Numbers: []uint16{j.last.Number, e.Number}}
		switch between := int(e.Number - j.last.Number - 1); {
		case e.Command == initialised:
			f.Text = fmt.Sprintf("the device was reset: entry %d is followed by the first of a new log", j.last.Number)
		case between != 0:
			f.Count = between
			f.Text = fmt.Sprintf("%d entries are missing between %d and %d", between, j.last.Number, e.Number)
		default:
			f.Text = fmt.Sprintf("entry %d does not continue entry %d: its digest is another one's", e.Number, j.last.Number)
		}
		j.found(f)
	}
	j.last, j.any = e, true
	j.entries++
	j.batch = append(j.batch, e)
}

// initialised is the command of the first entry after a reset.
const initialised yubihsm.Command = 0xff

// log hears that all entries up to now are there.
func (j *judge) log(r record) {
	j.at = r.at
	if boots, sessions := r.numbers[0], r.numbers[1]; boots+sessions > 0 {
		j.found(Finding{Kind: Unlogged, Until: r.at, Text: fmt.Sprintf("while the log was full, the device started %d times and opened %d sessions that it has no entries of", boots, sessions)})
	}
	groups := map[Ask][]uint16{}
	for _, e := range j.batch {
		if a, ok := signature(e); ok && j.keys[a.Key] {
			groups[a] = append(groups[a], e.Number)
		}
	}
	for _, a := range sorted(groups) {
		j.signatures(a, groups[a])
	}
	for _, a := range sorted(j.late) {
		j.missing(a, j.late[a])
	}
	if clear(j.late); j.gap {
		for _, a := range sorted(j.due) {
			j.missing(a, j.due[a])
		}
		clear(j.due)
	}
	j.due, j.late = j.late, j.due
	j.batch, j.gap, j.open, j.begun = nil, false, "", true
}

// settled reports whether another log without entries would say nothing new.
func (j *judge) settled() bool {
	return j.begun && j.open == "" && len(j.batch)+len(j.due)+len(j.late) == 0
}

// signature returns what a signature is counted as.
func signature(e yubihsm.LogEntry) (Ask, bool) {
	is := e.Command == yubihsm.CommandSignEdDSA || e.Command == yubihsm.CommandSignECDSA
	return Ask{e.Session, e.Target, e.Command, e.Length}, is && e.Result == byte(e.Command)|0x80
}

// signatures accounts for signatures that are alike.
func (j *judge) signatures(a Ask, numbers []uint16) {
	j.signed += len(numbers)
	rest := len(numbers)
	take := func(from map[Ask]int) {
		n := min(rest, from[a])
		rest, j.matched = rest-n, j.matched+n
		if from[a] -= n; from[a] == 0 {
			delete(from, a)
		}
	}
	take(j.late)
	take(j.due)
	take(j.lost)
	f := Finding{Count: rest, Key: a.Key, Numbers: numbers, Until: j.at}
	switch {
	case rest == 0:
		return
	case a.isProbe():
		j.probes += rest
		return
	case j.open != "" && j.ours[a.AuthKey]:
		f.Kind = Unmatched
		f.Text = fmt.Sprintf("up to %s of key 0x%04x cannot be matched: %s", cure.Count(rest, "signature"), a.Key, j.open)
	case !j.begun:
		j.before += rest
		return
	default:
		f.Kind = Foreign
		f.Text = fmt.Sprintf("no signer of ours asked for %s of key 0x%04x, of %d bytes, made with authentication key 0x%04x: %s", cure.Count(rest, "signature"), a.Key, max(2, a.Length)-2, a.AuthKey, among(rest, numbers))
	}
	j.found(f)
}

// missing accounts for signatures that the device answered with, and has not logged.
func (j *judge) missing(a Ask, n int) {
	why := "it does not log that command, or hides some"
	if j.gap {
		why = "they may be among the entries that are missing"
	}
	j.found(Finding{Kind: Missing, Count: n, Key: a.Key, Until: j.at, Text: fmt.Sprintf("the log lacks %s of key 0x%04x that the device made for us: %s", cure.Count(n, "signature"), a.Key, why)})
}

// maxProbe is how many bytes are too few for a vote, a proposal, or a vote extension of any
// chain, which has a height of 8 bytes in it and the chain's id. The extension of v2 that is
// not replay-protected, and bytes of a node's choice, may be as short.
const maxProbe = 12

// isProbe reports whether what was signed cannot be a message of a chain. Of ECDSA nobody
// knows: the device gets a digest.
func (a Ask) isProbe() bool {
	return a.Command == yubihsm.CommandSignEdDSA && a.Length <= 2+maxProbe
}

// among says which of some entries it is about.
func among(n int, numbers []uint16) string {
	const most = 8
	text := ""
	for i, number := range numbers {
		if i == most {
			text += fmt.Sprintf(" and %d more", len(numbers)-most)
			break
		}
		text += map[bool]string{true: ", ", false: ""}[i > 0] + fmt.Sprint(number)
	}
	switch {
	case len(numbers) == 1:
		return "entry " + text
	case n == len(numbers):
		return "entries " + text
	}
	return fmt.Sprintf("%d of entries %s", n, text)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "the beginning"
	}
	return t.UTC().Format(time.RFC3339)
}

// sorted returns the keys of a map in a fixed order.
func sorted[V any](m map[Ask]V) []Ask {
	return slices.SortedFunc(maps.Keys(m), func(a, b Ask) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.AuthKey, b.AuthKey), cmp.Compare(a.Command, b.Command), cmp.Compare(a.Length, b.Length))
	})
}
