package operator

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/privval"
)

// oracle knows every signature that ever left a signer of the key, and every word
// that an operator gave. It judges by these alone, and knows nothing of how
// privyseal keeps its state.
type oracle struct {
	key     ed25519.PublicKey
	chainID string

	signed map[position]release
	order  []position // of signed, sorted
	live   map[string]bool
	denied map[string]word // copies that a word says do not sign
	// unheeded are those of them that signed on the host of the word since, which it
	// knows until it is booted.
	unheeded map[string]word

	// setBack says that the shared state was set back, beside privyseal. A home that has
	// signed more still knows that: reached is how far.
	setBack bool
	reached map[string]position

	// excuse is the false word because of which two signatures may conflict now, or
	// empty.
	excuse string
}

// position is what must be signed once only.
type position struct {
	height int64
	round  int32
	step   uint8 // 1 proposal, 2 prevote, 3 precommit
}

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.height, q.height), cmp.Compare(p.round, q.round), cmp.Compare(p.step, q.step))
}

func (p position) String() string {
	return fmt.Sprintf("%d/%d/%s", p.height, p.round, [...]string{"none", "proposal", "prevote", "precommit"}[p.step])
}

// leap is more than a node can ask for at once, by the default of height_burst and
// what words add.
const leap = 200_000

// release is a signature that left.
type release struct {
	content []byte // the sign bytes, without the timestamp of a vote
	by      string // the copy of the state that it came from
}

// word is what an operator said with --yes, --fresh-state or --after-height.
type word struct {
	step   string // the step in which it was given
	about  string // the copy of the state that it is about
	boot   int    // how often the host of the denied copy was booted then
	output string // what privyseal printed when it asked for the word and took it
}

func newOracle(chainID string) *oracle {
	return &oracle{chainID: chainID, signed: map[position]release{}, live: map[string]bool{}, denied: map[string]word{}, unheeded: map[string]word{}, reached: map[string]position{}}
}

// top returns the highest position that was signed.
func (o *oracle) top() position {
	if len(o.order) == 0 {
		return position{}
	}
	return o.order[len(o.order)-1]
}

var steps = map[privval.Kind]uint8{privval.KindProposal: 1, privval.KindPrevote: 2, privval.KindPrecommit: 3}

// answered records a signature that a node got from a copy of the state. The error
// says that it must never have been made.
func (o *oracle) answered(copy copyOf, req privval.Request, resp privval.Response) error {
	if resp.Refused != "" {
		return nil
	}
	if req.Kind != privval.KindProposal {
		var err error
		if req.Timestamp, err = parseTimestamp(resp.Timestamp); err != nil {
			return err
		}
	}
	if !ed25519.Verify(o.key, req.SignBytes(), resp.Signature) {
		return fmt.Errorf("%s signed other bytes than those of the request", copy.name)
	}
	if req.Kind != privval.KindProposal {
		req.Timestamp = privval.Timestamp{}
	}
	return o.released(copy, position{req.Height, req.Round, steps[req.Kind]}, req.SignBytes())
}

// released records a signature of a copy of the state.
func (o *oracle) released(copy copyOf, at position, content []byte) error {
	// A host sees by itself that another state of the key signs there, until it is booted.
	if w, denied := o.denied[copy.name]; denied && (copy.host != w.about[0] || copy.boot != w.boot) {
		if err := o.lie(w, fmt.Sprintf("that no other copy signs was false: %s does", copy.name), saysNoOther); err != nil {
			return err
		}
	}
	if w, denied := o.denied[copy.name]; denied {
		o.unheeded[copy.name] = w
	}
	o.live[copy.name] = o.live[copy.name] || copy.shared
	known := o.reached[copy.name]
	if known.compare(at) < 0 {
		o.reached[copy.name] = at
	}
	before, twice := o.signed[at]
	if !twice {
		if top := o.top().height; at.height > top+leap {
			return fmt.Errorf("%s signed at height %d, and nothing above %d was signed before: whatever a node says, the mark goes out of reach", copy.name, at.height, top)
		}
		o.signed[at] = release{content, copy.name}
		i, _ := slices.BinarySearchFunc(o.order, at, position.compare)
		o.order = slices.Insert(o.order, i, at)
		return nil
	}
	if bytes.Equal(before.content, content) || o.excuse != "" {
		return nil
	}
	if o.setBack && copy.shared && known.compare(at) < 0 {
		o.excuse = "the shared state was set back, and " + copy.name + " had not seen more"
		return nil
	}
	return fmt.Errorf("DOUBLE SIGN at %v: %s signed one block there, and now %s another one, and nobody has said anything false", at, before.by, copy.name)
}

// What privyseal has to say to an operator who is asked for his word.
var (
	saysNothingNewer = regexp.MustCompile(`(?i)newer|never signed|has not signed|signed nothing|has not reached|above`)
	saysNoOther      = regexp.MustCompile(`(?i)no other|not sign any ?more|any more|elsewhere|every signer of it`)
)

// gave records a word that privyseal has taken, for a copy whose mark it now is.
func (o *oracle) gave(w word, mark position, copies []copyOf) error {
	o.live[w.about] = true
	delete(o.denied, w.about)
	delete(o.unheeded, w.about)
	i := slices.IndexFunc(copies, func(c copyOf) bool { return c.name == w.about })
	// A state in etcd that one home has brought back to life is that of each home that shares it.
	shared := slices.ContainsFunc(copies, func(c copyOf) bool { return c.shared && o.live[c.name] })
	for _, c := range copies {
		if c.name != w.about && (o.live[c.name] || c.shared && shared) && !(c.shared && copies[i].shared) {
			w.boot = c.boot
			o.denied[c.name] = w
		}
	}
	if top := o.top(); mark.compare(top) < 0 {
		return o.lie(w, fmt.Sprintf("that nothing newer was signed was false: the mark is at %v, and %v was signed", mark, top), saysNothingNewer)
	}
	return nil
}

// lie records a false word. The error says that privyseal did not say what the
// word claims.
func (o *oracle) lie(w word, why string, says *regexp.Regexp) error {
	if !says.MatchString(w.output) {
		return fmt.Errorf("the word of %q, %s; but privyseal did not say that this is what it means (%v):\n%s", w.step, why, says, w.output)
	}
	if o.excuse == "" {
		o.excuse = fmt.Sprintf("the word of %q, %s", w.step, why)
	}
	return nil
}

// booted records that a host has forgotten what its copies signed. Of a copy that
// was said not to sign, and has, nobody can know any more.
func (o *oracle) booted(host byte) error {
	for name, w := range o.unheeded {
		if name[0] != host {
			continue
		}
		delete(o.unheeded, name)
		if err := o.lie(w, fmt.Sprintf("that no other copy signs was false: %s did", name), saysNoOther); err != nil {
			return err
		}
	}
	return nil
}

// ended records that a copy was exported: it is dead by privyseal's own promise,
// so a word that says so is true.
func (o *oracle) ended(name string) {
	delete(o.live, name)
	delete(o.denied, name)
	delete(o.unheeded, name)
}

// parseTimestamp reads a google.protobuf.Timestamp of a reply.
func parseTimestamp(b []byte) (t privval.Timestamp, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || typ != protowire.VarintType {
			return t, errors.New("the timestamp of a reply is garbage")
		}
		v, size := protowire.ConsumeVarint(b[n:])
		if size < 0 {
			return t, protowire.ParseError(size)
		}
		switch num {
		case 1:
			t.Seconds = int64(v)
		case 2:
			t.Nanos = int32(v)
		}
		b = b[n+size:]
	}
	return t, nil
}
