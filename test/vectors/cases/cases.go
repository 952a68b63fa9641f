// Package cases lists what the golden vectors cover, apart from any version of
// CometBFT. The modules beside it, one a version, turn each case into the
// request of their node and ask their signer what it would sign.
//
// It holds no expectation: what is right is said by CometBFT's own code alone.
package cases

import (
	"crypto/sha256"
	"fmt"
	"math"
	"strings"
	"time"
)

// The kinds of requests.
const (
	PubKey    = "pubkey"
	VoteKind  = "vote"
	PropKind  = "proposal"
	Ping      = "ping"
	SignBytes = "signbytes" // v1 and v2 only
)

// The types of votes, and of a proposal (SignedMsgType).
const (
	Prevote      = 1
	Precommit    = 2
	ProposalType = 32
)

// Case is one request of a node. Kind says which fields count; with Raw, only
// Raw does: the payload byte for byte.
type Case struct {
	Name string
	Kind string

	ChainID  string
	Vote     *Vote     // nil leaves the message out
	Proposal *Proposal // nil leaves the message out
	SkipExt  bool      // skip_extension_signing, v1 and v2
	Value    []byte    // of SignBytes

	Raw []byte
}

// BlockID is a block's hash and the header of its parts.
type BlockID struct {
	Hash      []byte
	Total     uint32
	PartsHash []byte
}

// Vote holds the fields of a vote in every version. A version without
// extensions leaves out the cases that have one.
type Vote struct {
	Type      int32
	Height    int64
	Round     int32
	Block     BlockID
	Time      time.Time
	Address   []byte
	Index     int32
	Signature []byte

	Extension          []byte
	ExtensionSignature []byte
}

// Proposal holds the fields of a proposal.
type Proposal struct {
	Type      int32
	Height    int64
	Round     int32
	POLRound  int32
	Block     BlockID
	Time      time.Time
	Signature []byte
}

// HasExtension reports whether only versions with vote extensions can say it.
func (c Case) HasExtension() bool {
	return c.Vote != nil && (len(c.Vote.Extension) > 0 || len(c.Vote.ExtensionSignature) > 0)
}

// OnlyV1 reports whether only the v1 form of the protocol can say it.
func (c Case) OnlyV1() bool { return c.SkipExt || c.Kind == SignBytes }

const chain = "chain-1"

var (
	someTime = time.Date(2026, 8, 12, 9, 30, 15, 123456789, time.UTC)
	blockA   = BlockID{repeat(0xaa, 32), 1, repeat(0xab, 32)}
	blockB   = BlockID{repeat(0xbb, 32), 2, repeat(0xbc, 32)}
	// blockC has hashes in which no byte can be mistaken for its neighbour.
	blockC = BlockID{sum("block"), 16, sum("parts")}
)

func repeat(b byte, n int) []byte { return []byte(strings.Repeat(string([]byte{b}), n)) }

func sum(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

func baseVote(typ int32) Vote {
	return Vote{Type: typ, Height: 7, Round: 1, Block: blockA, Time: someTime, Address: repeat(0xad, 20), Index: 3}
}

func baseProposal() Proposal {
	return Proposal{Type: ProposalType, Height: 7, Round: 1, POLRound: -1, Block: blockA, Time: someTime}
}

// All returns every case. Names are unique, the order never changes.
func All() []Case {
	var l list
	l.chainIDs()
	l.everyFieldAlone()
	l.heights()
	l.rounds()
	l.times()
	l.blocks()
	l.types()
	l.validators()
	l.signatures()
	l.combinations()
	l.extensions()
	l.signBytesRequests()
	l.raw()
	return l.cases
}

type list struct{ cases []Case }

func (l *list) add(c Case) { l.cases = append(l.cases, c) }

// vote adds a prevote and a precommit that differ from the usual one by change.
func (l *list) vote(name string, change func(*Vote)) {
	for _, t := range []struct {
		name string
		typ  int32
	}{{"prevote", Prevote}, {"precommit", Precommit}} {
		v := baseVote(t.typ)
		change(&v)
		l.add(Case{Name: t.name + "/" + name, Kind: VoteKind, ChainID: chain, Vote: &v})
	}
}

func (l *list) proposal(name string, change func(*Proposal)) {
	p := baseProposal()
	change(&p)
	l.add(Case{Name: "proposal/" + name, Kind: PropKind, ChainID: chain, Proposal: &p})
}

func (l *list) chainIDs() {
	ids := []struct{ name, id string }{
		{"empty", ""},
		{"one", "a"},
		{"usual", "cosmoshub-4"},
		{"longest", strings.Repeat("c", 50)},
		{"too-long", strings.Repeat("c", 51)},
		{"long", strings.Repeat("chain-", 20)},
		{"spaces", " a  chain "},
		{"punctuation", "_-.:/\\\"'|#=%$"},
		{"control", "a\x00b\nc\td"},
		{"unicode", "кошка-鎖-🔏"},
		{"not-utf8", "a\xff\xfeb"},
	}
	for _, c := range ids {
		v, p := baseVote(Precommit), baseProposal()
		l.add(Case{Name: "pubkey/chain/" + c.name, Kind: PubKey, ChainID: c.id})
		l.add(Case{Name: "precommit/chain/" + c.name, Kind: VoteKind, ChainID: c.id, Vote: &v})
		l.add(Case{Name: "proposal/chain/" + c.name, Kind: PropKind, ChainID: c.id, Proposal: &p})
	}
	l.add(Case{Name: "ping", Kind: Ping})
	l.add(Case{Name: "vote/missing", Kind: VoteKind, ChainID: chain})
	l.add(Case{Name: "vote/missing-no-chain", Kind: VoteKind})
	l.add(Case{Name: "vote/all-zero", Kind: VoteKind, Vote: &Vote{}})
	l.add(Case{Name: "vote/all-zero-chain", Kind: VoteKind, ChainID: chain, Vote: &Vote{}})
	l.add(Case{Name: "proposal/missing", Kind: PropKind, ChainID: chain})
	l.add(Case{Name: "proposal/missing-no-chain", Kind: PropKind})
	l.add(Case{Name: "proposal/all-zero", Kind: PropKind, Proposal: &Proposal{}})
	l.add(Case{Name: "proposal/all-zero-chain", Kind: PropKind, ChainID: chain, Proposal: &Proposal{}})
}

// everyFieldAlone has messages with nothing but the type and one more field,
// and messages that lack nothing but one field.
func (l *list) everyFieldAlone() {
	full := map[string]func(v *Vote, from Vote){
		"height":    func(v *Vote, from Vote) { v.Height = from.Height },
		"round":     func(v *Vote, from Vote) { v.Round = from.Round },
		"hash":      func(v *Vote, from Vote) { v.Block = from.Block },
		"time":      func(v *Vote, from Vote) { v.Time = from.Time },
		"address":   func(v *Vote, from Vote) { v.Address = from.Address },
		"index":     func(v *Vote, from Vote) { v.Index = from.Index },
		"signature": func(v *Vote, from Vote) { v.Signature = from.Signature },
	}
	names := []string{"height", "round", "hash", "time", "address", "index", "signature"}
	for _, name := range names {
		l.vote("only/"+name, func(v *Vote) {
			from := *v
			from.Signature = sum("signature")
			*v = Vote{Type: v.Type, Time: time.Unix(0, 0).UTC()}
			full[name](v, from)
		})
		l.vote("without/"+name, func(v *Vote) {
			v.Signature = sum("signature")
			full[name](v, Vote{Time: time.Unix(0, 0).UTC()})
		})
	}
	l.proposal("only/type", func(p *Proposal) { *p = Proposal{Type: ProposalType, Time: time.Unix(0, 0).UTC()} })
	l.proposal("only/height", func(p *Proposal) { *p = Proposal{Type: ProposalType, Height: 7} })
	l.proposal("only/pol-round", func(p *Proposal) { *p = Proposal{Type: ProposalType, POLRound: 5} })
	l.proposal("only/block", func(p *Proposal) { *p = Proposal{Type: ProposalType, Block: blockC} })
	l.proposal("without/block", func(p *Proposal) { p.Block = BlockID{} })
	l.proposal("without/time", func(p *Proposal) { p.Time = time.Unix(0, 0).UTC() })
}

func (l *list) heights() {
	for _, h := range []int64{
		1, 2, 127, 128, 16384, 1<<31 - 1, 1 << 32, 999_999_999,
		math.MaxInt64 - 1, math.MaxInt64, 0, -1, math.MinInt64,
	} {
		name := fmt.Sprintf("height/%d", h)
		l.vote(name, func(v *Vote) { v.Height = h })
		l.proposal(name, func(p *Proposal) { p.Height = h })
	}
}

func (l *list) rounds() {
	for _, r := range []int32{0, 1, 127, 128, math.MaxInt32, -1, math.MinInt32} {
		name := fmt.Sprintf("round/%d", r)
		l.vote(name, func(v *Vote) { v.Round = r })
		l.proposal(name, func(p *Proposal) { p.Round = r })
		l.proposal("pol-"+name, func(p *Proposal) { p.Round, p.POLRound = math.MaxInt32, r })
	}
	l.proposal("pol-round/above-round", func(p *Proposal) { p.Round, p.POLRound = 1, 2 })
	l.proposal("pol-round/-2", func(p *Proposal) { p.POLRound = -2 })
}

func (l *list) times() {
	for _, t := range []struct {
		name string
		at   time.Time
	}{
		{"zero", time.Time{}},
		{"zero-1ns", time.Time{}.Add(1)},
		{"epoch", time.Unix(0, 0)},
		{"epoch+1ns", time.Unix(0, 1)},
		{"epoch+last-ns", time.Unix(0, 999_999_999)},
		{"epoch+1s", time.Unix(1, 0)},
		{"epoch-1ns", time.Unix(-1, 999_999_999)},
		{"epoch-1s", time.Unix(-1, 0)},
		{"year-1583", time.Date(1583, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"whole-second", time.Date(2026, 8, 12, 9, 30, 15, 0, time.UTC)},
		{"millisecond", time.Date(2026, 8, 12, 9, 30, 15, 7_000_000, time.UTC)},
		{"2^31-1", time.Unix(1<<31-1, 0)},
		{"2^31", time.Unix(1<<31, 0)},
		{"2^32", time.Unix(1<<32, 5)},
		{"year-9999", time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)},
	} {
		l.vote("time/"+t.name, func(v *Vote) { v.Time = t.at.UTC() })
		l.proposal("time/"+t.name, func(p *Proposal) { p.Time = t.at.UTC() })
	}
}

func (l *list) blocks() {
	for _, b := range []struct {
		name string
		id   BlockID
	}{
		{"nil", BlockID{}},
		{"ordered", blockC},
		{"total-most", BlockID{blockC.Hash, math.MaxUint32, blockC.PartsHash}},
		{"total-0", BlockID{blockC.Hash, 0, blockC.PartsHash}},
		{"only-hash", BlockID{Hash: blockC.Hash}},
		{"only-parts", BlockID{Total: 1, PartsHash: blockC.PartsHash}},
		{"only-total", BlockID{Total: 1}},
		{"only-parts-hash", BlockID{PartsHash: blockC.PartsHash}},
		{"hash-and-total", BlockID{Hash: blockC.Hash, Total: 1}},
		{"short-hash", BlockID{blockC.Hash[:5], 1, blockC.PartsHash}},
		{"hash-31", BlockID{blockC.Hash[:31], 1, blockC.PartsHash}},
		{"hash-33", BlockID{append(sum("block"), 0), 1, blockC.PartsHash}},
		{"short-parts-hash", BlockID{blockC.Hash, 1, blockC.PartsHash[:5]}},
		{"parts-hash-33", BlockID{blockC.Hash, 1, append(sum("parts"), 0)}},
		{"zero-hashes", BlockID{repeat(0, 32), 1, repeat(0, 32)}},
	} {
		l.vote("block/"+b.name, func(v *Vote) { v.Block = b.id })
		l.proposal("block/"+b.name, func(p *Proposal) { p.Block = b.id })
	}
}

func (l *list) types() {
	for _, t := range []int32{0, 3, 5, ProposalType, 33, 128, -1, math.MaxInt32, math.MinInt32} {
		v := baseVote(t)
		l.add(Case{Name: fmt.Sprintf("vote/type/%d", t), Kind: VoteKind, ChainID: chain, Vote: &v})
	}
	for _, t := range []int32{0, 1, 2, 5, 33, -1, math.MaxInt32} {
		l.proposal(fmt.Sprintf("type/%d", t), func(p *Proposal) { p.Type = t })
	}
}

func (l *list) validators() {
	l.vote("validator/none", func(v *Vote) { v.Address, v.Index = nil, 0 })
	l.vote("validator/address-19", func(v *Vote) { v.Address = repeat(1, 19) })
	l.vote("validator/address-32", func(v *Vote) { v.Address = sum("address") })
	l.vote("validator/index-1", func(v *Vote) { v.Index = 1 })
	l.vote("validator/index-most", func(v *Vote) { v.Index = math.MaxInt32 })
	l.vote("validator/index-negative", func(v *Vote) { v.Index = -1 })
}

func (l *list) signatures() {
	for _, n := range []int{1, 64, 65, 3309} {
		name := fmt.Sprintf("signature/%d", n)
		l.vote(name, func(v *Vote) { v.Signature = repeat(0x51, n) })
		l.proposal(name, func(p *Proposal) { p.Signature = repeat(0x51, n) })
	}
}

// combinations crosses the edges of every field with those of the others.
func (l *list) combinations() {
	blocks := []struct {
		name string
		id   BlockID
	}{{"nil", BlockID{}}, {"A", blockA}, {"B", blockB}}
	times := []time.Time{time.Unix(0, 0).UTC(), someTime}
	for _, height := range []int64{1, math.MaxInt64} {
		for _, round := range []int32{0, math.MaxInt32} {
			for i, at := range times {
				for _, b := range blocks {
					name := fmt.Sprintf("cross/%d/%d/%d/%s", height, round, i, b.name)
					l.vote(name, func(v *Vote) {
						*v = Vote{Type: v.Type, Height: height, Round: round, Block: b.id, Time: at}
					})
				}
				for _, pol := range []int32{-1, 0, math.MaxInt32 - 1} {
					l.proposal(fmt.Sprintf("cross/%d/%d/%d/%d", height, round, i, pol), func(p *Proposal) {
						*p = Proposal{Type: ProposalType, Height: height, Round: round, POLRound: pol, Block: blockB, Time: at}
					})
				}
			}
		}
	}
}

func (l *list) extensions() {
	for _, n := range []int{0, 1, 127, 128, 16384} {
		for _, skip := range []bool{false, true} {
			suffix := ""
			if skip {
				suffix = "-skip"
			}
			ext := repeat(0xee, n)
			for _, c := range []struct {
				name string
				typ  int32
				id   BlockID
			}{{"precommit", Precommit, blockA}, {"precommit-nil", Precommit, BlockID{}}, {"prevote", Prevote, blockA}, {"prevote-nil", Prevote, BlockID{}}} {
				v := baseVote(c.typ)
				v.Block, v.Extension = c.id, ext
				l.add(Case{
					Name: fmt.Sprintf("extension/%s/%d%s", c.name, n, suffix), Kind: VoteKind,
					ChainID: chain, Vote: &v, SkipExt: skip,
				})
			}
		}
	}
	for _, c := range []struct {
		name string
		v    Vote
	}{
		{"ordered", Vote{Height: math.MaxInt64, Round: math.MaxInt32, Block: blockC, Extension: sum("extension")}},
		{"no-round", Vote{Height: 1, Block: blockC, Extension: []byte{0}}},
		{"signed", Vote{Height: 1, Block: blockC, Extension: []byte{1, 2}, ExtensionSignature: repeat(0x5e, 64)}},
		{"signed-empty", Vote{Height: 1, Block: blockC, ExtensionSignature: repeat(0x5e, 64)}},
		{"half-block", Vote{Height: 1, Block: BlockID{Hash: blockC.Hash}, Extension: []byte{1}}},
	} {
		c.v.Type, c.v.Time = Precommit, someTime
		l.add(Case{Name: "extension/" + c.name, Kind: VoteKind, ChainID: chain, Vote: &c.v})
	}
	v := baseVote(Precommit)
	v.Extension = []byte("ext")
	l.add(Case{Name: "extension/no-chain", Kind: VoteKind, Vote: &v})
}

func (l *list) signBytesRequests() {
	for _, n := range []int{0, 1, 32, 127, 128, 4096} {
		l.add(Case{Name: fmt.Sprintf("signbytes/%d", n), Kind: SignBytes, Value: repeat(0x5b, n)})
	}
	l.add(Case{Name: "signbytes/ordered", Kind: SignBytes, Value: sum("value")})
}
