package filestore

import (
	"errors"
	"fmt"
	"time"

	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// judge reads the two slots of a file and returns the record that rules, and
// whether one of the four copies is bad. What our writes cannot leave is refused:
// a guess could bring back an older mark. Of what is refused with ErrRestored the
// record is returned too, for an operator who adopts it.
func judge(slots *[2][slotSize]byte, macKey []byte) (cur record, flawed bool, err error) {
	var recs [2]record
	for i := range slots {
		r, bad, err := judgeSlot(i, &slots[i], macKey)
		if err != nil {
			return record{}, false, err
		}
		recs[i], flawed = r, flawed || bad
	}
	low, high := recs[0], recs[1]
	if low.seq > high.seq {
		low, high = high, low
	}
	switch {
	case high.id != low.id:
		return record{}, false, damaged("its records belong to two chains or keys")
	case high.mark.Less(low.mark):
		return record{}, false, damaged("record %d is at %v, below record %d at %v", high.seq, high.mark, low.seq, low.mark)
	case high.seq != low.seq+1:
		return high, flawed, restored("records %d and %d do not follow one another: old bytes were put over one, or the disk lost a write that it had confirmed", low.seq, high.seq)
	case high.old:
		return high, flawed, restored("its format is that of an earlier version of privyseal")
	}
	return high, flawed, nil
}

// judgeSlot reads the two copies in slot i and returns the newer one that is good,
// and whether the other one is bad. A write that was cut off leaves two good ones,
// the newer with a number that is higher by two.
func judgeSlot(i int, slot *[slotSize]byte, macKey []byte) (cur record, flawed bool, err error) {
	var failed [2]error
	for n := range failed {
		r, err := decode(slot[n*recordSize:][:recordSize], macKey)
		if err != nil {
			failed[n] = err
			continue
		}
		switch {
		case slotOf(r.seq) != i:
			return record{}, false, damaged("record %d is in slot %d", r.seq, i)
		case r.closed, r.seen != 0, r.shared:
			return record{}, false, damaged("slot %d holds what belongs in the file beside it, or in memory", i)
		}
		if r.seq > cur.seq {
			cur = r
		}
	}
	// Version 1 left the second sector empty.
	flawed = (failed[0] != nil || failed[1] != nil) && !cur.old
	switch {
	case cur.seq != 0:
		return cur, flawed, nil
	case errors.Is(failed[0], errAlien):
		return record{}, false, damaged("slot %d: %v", i, failed[0])
	case errors.Is(failed[1], errAlien):
		return record{}, false, damaged("slot %d: %v", i, failed[1])
	case len(macKey) > 0:
		return record{}, false, damaged("both copies of the record in slot %d have a bad checksum, or the MAC key is a different one", i)
	}
	return record{}, false, damaged("both copies of the record in slot %d have a bad checksum", i)
}

func damaged(format string, args ...any) error {
	return &fault{err: ErrDamaged, detail: fmt.Sprintf(format, args...)}
}

func restored(format string, args ...any) error {
	return &fault{err: ErrRestored, detail: fmt.Sprintf(format, args...)}
}

// surroundings is what is around the records of a state, in places that no
// backup of the state brings back with it.
type surroundings struct {
	// here is the machine and the file.
	here binding
	// companions are the files beside the state. There is one, or during a load
	// two.
	companions []companion
	// host are the last records that this host has written since it was booted,
	// for this chain and key, in any file.
	host []record
	// When content and inode of the file were changed last, nanoseconds since
	// 1970, before we wrote to it; zero where that is not known.
	mtime, ctime int64
}

// companion is a file beside a state: which one it is, and what it holds.
type companion struct {
	id   fileID
	last *record // nil: nothing legible
}

// slack is by how much the kernel's time of a write may differ from ours: we look
// at the clock first, and its own clock ticks every few milliseconds. What is put
// back within it of the last record, and across a reboot, goes unseen.
const slack = 2 * time.Second

// startTime is how long after the companion noted a record the file may change
// without another one: the first writes of a start, on a slow disk. If nothing was
// written then, nothing is lost by putting the same record back; if something was, the
// companion is another one.
const startTime = 10 * time.Second

// judge returns ErrRestored unless r is certainly, or as far as one host can know,
// the last record that was written for this chain and key.
//
// The host's own record is the best evidence, but is gone after a reboot. Then
// the companion speaks: each start that writes makes another, so that what was backed up before
// names a file that no longer exists, and at a clean stop it holds the last record.
// After a kill, the times of the file are left; a start that was cut off has said in the
// companion when it began to change them.
func (s *surroundings) judge(r *record) error {
	newest := s.atRest(r)
	for i := range s.host {
		h := &s.host[i]
		if err := older(r, h, "this host"); err != nil {
			return err
		}
		newest = newest || r.same(h)
	}
	mine := false
	for i := range s.companions {
		c := &s.companions[i]
		mine = mine || c.id == r.companion
		if c.last == nil || c.last.id != r.id || c.last.seen != 0 {
			continue // nothing, or what may not have been durable then
		}
		if err := older(r, c.last, "the file beside it"); err != nil {
			return err
		}
	}
	switch {
	case newest:
		return nil
	case len(s.companions) == 0:
		return restored("the file beside it, %s, is missing", "…"+CompanionSuffix)
	case !mine:
		return restored("record %d was written before the last start", r.seq)
	}
	return s.judgeTimes(r)
}

// announces reports whether a start has found r and said so, or a record after r that
// was on no disk yet, and is lost.
func (c *companion) announces(r *record) bool {
	k := c.last
	return k != nil && k.seen != 0 && k.id == r.id && k.binding == r.binding && (k.sameState(r) || k.seq == r.seq+1)
}

// atRest reports whether the companion that r names says that r is the last record,
// after a clean stop. Beside another one it says nothing: a power cut may have taken
// the name of its successor away.
func (s *surroundings) atRest(r *record) (rest bool) {
	for _, c := range s.companions {
		if c.id != r.companion {
			return false
		}
		rest = rest || c.last != nil && c.last.closed && c.last.sameState(r)
	}
	return rest
}

// judgeTimes looks for a change of the file after its last record.
func (s *surroundings) judgeTimes(r *record) error {
	limit := r.stamp + slack.Nanoseconds()
	for _, c := range s.companions {
		if c.announces(r) {
			limit = max(limit, c.last.seen+startTime.Nanoseconds())
		}
	}
	at := func(t int64) string { return time.Unix(0, t).UTC().Format(time.RFC3339) }
	switch {
	case s.mtime > limit:
		return restored("something wrote to it at %s, after its last record of %s", at(s.mtime), at(r.stamp))
	case s.ctime > limit:
		return restored("something changed it at %s, after its last record of %s, and privyseal was not stopped cleanly", at(s.ctime), at(r.stamp))
	}
	return nil
}

// older returns ErrRestored if k, which somebody knows, shows that r is not the
// last record. In another state only marks can be compared; of one that has ended here, and
// signs nothing, what another has signed since says nothing.
func older(r, k *record, who string) error {
	when := time.Unix(0, k.stamp).UTC().Format(time.RFC3339)
	switch {
	case k.id != r.id:
		return nil
	case k.binding == r.binding && (k.seq > r.seq || k.seq == r.seq && !k.sameState(r)):
		return restored("it is at record %d, %v; %s knows record %d of %s, %v", r.seq, r.mark, who, k.seq, when, k.mark)
	case k.binding == r.binding || r.exported:
		return nil
	}
	if why := k.refutes(r.mark, r.stamp); why != "" {
		return restored("%s", why)
	}
	return nil
}

// refutes returns why k, which the host remembers of another state of the chain and key,
// shows that one at m is not the newest, or "". stamp is when that one was written last.
//
// Where k is of a state that other hosts share, they may have signed above it, and nothing is
// newer but what an operator has made, or brought in, since: one at the mark of its export that
// was written after that is where a move has put it, which may have been cut off right then.
func (k *record) refutes(m watermark.Mark, stamp int64) string {
	with, when := k.with(), time.Unix(0, k.stamp).UTC().Format(time.RFC3339)
	switch {
	case m.Less(k.mark) || !k.mark.Less(m) && !k.mark.Equal(m):
		return fmt.Sprintf("it is at %v; since it was booted this host has signed up to %v with this key, with %s, on %s", m, k.mark, with, when)
	case k.exported && !k.mark.Less(m) && !(k.shared && k.stamp < stamp):
		return fmt.Sprintf("it is at %v; this host has exported that with %s, on %s, and whoever imported it may have signed since", m, with, when)
	case k.shared && !k.exported && k.stamp > stamp:
		return fmt.Sprintf("it is at %v; since it was written this host has shared the state of this key with other hosts, with %s, on %s, and they may have signed above that", m, with, when)
	}
	return ""
}

// with names the state of a record that the host remembers.
func (r *record) with() string {
	if r.path == "" {
		return "another file"
	}
	return shell.File(r.path)
}

// sameState is same for a record that may be closed.
func (r *record) sameState(s *record) bool {
	a, b := *r, *s
	a.closed, b.closed = false, false
	return a.same(&b)
}

// newest returns r as it has to be adopted: at the highest mark that anything
// around it knows, numbered so that the next record follows all of them, and dead
// if the newest record of this file was, or what another file has exported is not below.
func (s *surroundings) newest(r record) record {
	known := append([]record(nil), s.host...)
	for _, c := range s.companions {
		if c.last != nil {
			known = append(known, *c.last)
		}
	}
	was := r.mark
	for _, k := range known {
		if k.id != r.id {
			continue
		}
		if k.binding != r.binding && k.exported && !k.mark.Less(was) {
			r.exported = true
		}
		if k.binding == r.binding && k.seq > r.seq {
			r.seq, r.exported = k.seq, k.exported
		}
		switch {
		case r.mark.Less(k.mark):
			r.mark, r.time = k.mark, k.time
		case !k.mark.Less(r.mark) && !k.mark.Equal(r.mark):
			r.mark.SignBytes = nil
		}
	}
	return r
}

// accept returns why the state in r may not be signed with: it is not that of
// c.ID, is older than what was written here, was exported, or was not written for
// here.
func (c *Config) accept(r *record, around *surroundings) error {
	if err := c.own(r); err != nil {
		return err
	}
	elsewhere := bound(r, around.here)
	if elsewhere == nil {
		if err := around.judge(r); err != nil {
			return err
		}
	}
	if r.exported {
		return &fault{err: ErrExported}
	}
	return elsewhere
}

// own returns ErrForeign if r belongs to another chain or key.
func (c *Config) own(r *record) error {
	switch {
	case r.id.ChainID != c.ID.ChainID:
		return &fault{err: ErrForeign, detail: fmt.Sprintf("it is for chain %q, not %q", r.id.ChainID, c.ID.ChainID)}
	case r.id.Key != c.ID.Key:
		return &fault{err: ErrForeign, detail: fmt.Sprintf("it is for key %x…, not %x…", r.id.Key[:8], c.ID.Key[:8])}
	}
	return nil
}

// bound returns ErrCopied if r was written for another machine or file.
func bound(r *record, here binding) error {
	switch {
	case r.binding.machine != here.machine:
		return &fault{err: ErrCopied, detail: "it was made on another machine, or /etc/machine-id has changed"}
	case r.binding != here && r.binding.inode == here.inode:
		return &fault{err: ErrCopied, detail: fmt.Sprintf("it was made as another file, whose inode %d this one has now", here.inode)}
	case r.binding != here:
		return &fault{err: ErrCopied, detail: fmt.Sprintf("it was made as inode %d, this is inode %d", r.binding.inode, here.inode)}
	}
	return nil
}
