package sharedmark

import (
	"encoding/binary"
	"math"
	"slices"

	"privyseal/internal/watermark"
)

// The format of a floor, numbers big-endian. It is kept as the sign bytes of a mark, a
// precommit of round 0, whose height rises by one with each write:
//
//	offset size
//	     0    1  version: 1
//	     1    1  flags: 1 the mark was exported, 2 pending: Create has not seen the value yet,
//	             4 the place is known
//	     2    8  writer
//	    10   16  lineage of the record
//	    26   16  nonce of the record
//	    42   16  medium, of which with flag 4 the last 8 bytes are the place
//	    58    8  sequence of the record
//	    66    8  revision of the value
//	    74    8  index
//	    82    8  term
//	    90    8  height of the mark
//	    98    4  round of the mark
//	   102    1  step of the mark
//	   103  8×n  members, at most 7, in ascending order
const (
	floorVersion = 1
	floorHead    = 103
	maxMembers   = 7

	flagPending = 2
	flagPlace   = 4
)

// floor is what one host has seen of a shared mark: nothing below it is believed. The zero
// floor is that of a host that has not joined.
type floor struct {
	writer   [8]byte
	lineage  [16]byte
	nonce    [16]byte
	seq      uint64
	revision uint64
	mark     watermark.Mark // without sign bytes
	exported bool
	pending  bool
	position Position // Revision is not kept
}

func (f *floor) isEmpty() bool { return f.writer == [8]byte{} }

// isNew reports whether the value may be missing.
func (f *floor) isNew() bool { return f.isEmpty() || f.pending }

func (f *floor) encode() []byte {
	var flags byte
	if f.exported {
		flags |= flagExported
	}
	if f.pending {
		flags |= flagPending
	}
	medium := f.position.Medium
	if f.position.Place != [8]byte{} {
		flags |= flagPlace
		copy(medium[8:], f.position.Place[:])
	}
	b := append(make([]byte, 0, floorHead+8*maxMembers), floorVersion, flags)
	b = append(b, f.writer[:]...)
	b = append(b, f.lineage[:]...)
	b = append(b, f.nonce[:]...)
	b = append(b, medium[:]...)
	for _, n := range []uint64{f.seq, f.revision, f.position.Index, f.position.Term, uint64(f.mark.Height)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(f.mark.Round))
	b = append(b, byte(f.mark.Step))
	for _, m := range f.position.Members {
		b = binary.BigEndian.AppendUint64(b, m)
	}
	return b
}

// decodeFloor reads a floor out of the mark that holds it. What it accepts encodes to the
// same bytes.
func decodeFloor(m watermark.Mark) (floor, error) {
	if len(m.SignBytes) == 0 { // none yet, or what became of those of two homes, of which one was adopted
		return floor{}, nil
	}
	b := m.SignBytes
	if m.Round != 0 || m.Step != watermark.StepPrecommit || len(b) < floorHead || len(b) > floorHead+8*maxMembers || (len(b)-floorHead)%8 != 0 {
		return floor{}, refuse(ErrDamaged, "what this host keeps is not the floor of a shared mark")
	}
	if b[0] != floorVersion {
		return floor{}, refuse(ErrDamaged, "the floor has format %d, and this program knows %d", b[0], floorVersion)
	}
	number := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	f := floor{
		writer: [8]byte(b[2:10]), lineage: [16]byte(b[10:26]), nonce: [16]byte(b[26:42]),
		seq: number(58), revision: number(66),
		mark:     watermark.Mark{Height: int64(number(90)), Round: int32(binary.BigEndian.Uint32(b[98:])), Step: watermark.Step(b[102])},
		exported: b[1]&flagExported != 0, pending: b[1]&flagPending != 0,
		position: Position{Medium: [16]byte(b[42:58]), Index: number(74), Term: number(82)},
	}
	for at := floorHead; at < len(b); at += 8 {
		f.position.Members = append(f.position.Members, number(at))
	}
	placed := b[1]&flagPlace != 0
	if placed {
		f.position.Place = [8]byte(b[50:58])
		clear(f.position.Medium[8:])
	}
	if f.isEmpty() || b[1]&^(flagExported|flagPending|flagPlace) != 0 || placed != (f.position.Place != [8]byte{}) || number(90) > math.MaxInt64 || f.mark.Round < 0 || f.mark.Step > watermark.StepPrecommit {
		return floor{}, refuse(ErrDamaged, "the floor has a flag or number out of range")
	}
	return f, nil
}

// Known returns the mark that a host has seen, without sign bytes, and whether it was exported
// then, out of the mark that holds its floor.
func Known(m watermark.Mark) (known watermark.Mark, exported bool, err error) {
	f, err := decodeFloor(m)
	return f.mark, f.exported, err
}

// Memberless reports whether a mark that holds a floor holds that of a database which has no
// members and no elections, as a table.
func Memberless(m watermark.Mark) bool {
	f, err := decodeFloor(m)
	return err == nil && !f.isEmpty() && len(f.position.Members) == 0 && f.position.Term == 0
}

// elsewhere returns ErrPlace if p is of another place than this host knows. Nobody adopts there: it
// is not the mark that this host shares, and those who share that would sign beside it.
func (f *floor) elsewhere(p Position) error {
	if known := f.position.Place; known != [8]byte{} && p.Place != known {
		return refuse(ErrPlace, "it is at place %x, and this host knows it at %x", p.Place, known)
	}
	return nil
}

// fence returns ErrRestored if p shows that what is reached there is older than what this
// host has seen, or another database.
func (f *floor) fence(p Position) error {
	known := f.position
	switch {
	case f.isEmpty():
		return nil
	case p.Medium != known.Medium:
		return refuse(ErrRestored, "it is in database %x, and this host knows it in %x: the database was restored or made again, or another one was reached", p.Medium[:8], known.Medium[:8])
	case p.Index < known.Index:
		return refuse(ErrRestored, "the database has done %d steps, and this host has seen %d: the database was restored", p.Index, known.Index)
	case p.Term < known.Term:
		return refuse(ErrRestored, "the database is at term %d, and this host has seen %d: the database was restored", p.Term, known.Term)
	case f.isMinority(p.Members):
		return refuse(ErrRestored, "most members of the database that this host has seen are gone: the database was restored, or a minority of it was made to go on alone")
	}
	return nil
}

// isMinority reports whether no majority of the members that were seen is left.
func (f *floor) isMinority(now []uint64) bool {
	seen, left := f.position.Members, 0
	for _, m := range seen {
		if slices.Contains(now, m) {
			left++
		}
	}
	return len(seen) > 0 && len(now) > 0 && left <= len(seen)/2
}

// reach notes where the engine stands, after it has passed the fence.
func (f *floor) reach(p Position) {
	known := &f.position
	known.Place = p.Place
	known.Index, known.Term, known.Revision = max(known.Index, p.Index), max(known.Term, p.Term), p.Revision
	if len(p.Members) > 0 {
		members := slices.Sorted(slices.Values(p.Members))
		known.Members = members[:min(len(members), maxMembers)]
	}
}

// accept returns ErrRestored if r, of a revision, is not what this host has seen, or what
// follows from that.
func (f *floor) accept(r *record, revision uint64) error {
	if r.lineage != f.lineage {
		return refuse(ErrRestored, "it was adopted on another host after a restore, or made again: its lineage is %x, and this host knows %x", r.lineage[:4], f.lineage[:4])
	}
	back := r.mark.Less(f.mark)
	if !f.pending {
		same := r.nonce == f.nonce
		back = back || r.seq < f.seq || revision < f.revision || same != (r.seq == f.seq) || same != (revision == f.revision)
	}
	if back {
		return refuse(ErrRestored, "it is at record %d, %v; this host has seen record %d at %v", r.seq, r.mark, f.seq, f.mark)
	}
	return nil
}

// raise takes over r, of a revision, which was accepted or is ours.
func (f *floor) raise(r *record, revision uint64) {
	f.lineage, f.nonce, f.seq, f.revision, f.exported, f.pending = r.lineage, r.nonce, r.seq, revision, r.exported, false
	f.mark = watermark.Mark{Height: r.mark.Height, Round: r.mark.Round, Step: r.mark.Step}
	// Each revision took a step of the engine's.
	if p := &f.position; p.Index > 0 && revision > p.Revision {
		p.Index += revision - p.Revision
		p.Revision = revision
	}
}
