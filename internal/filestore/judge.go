package filestore

import (
	"errors"
	"fmt"
)

// judge reads the two slots of a file and returns the record that rules, and
// whether the other one is torn. Every pair that our writes cannot leave behind
// is refused with ErrDamaged: a guess could bring back an older mark.
func judge(slots *[2][slotSize]byte, macKey []byte) (cur record, torn bool, err error) {
	damaged := func(format string, args ...any) (record, bool, error) {
		return record{}, false, &fault{err: ErrDamaged, detail: fmt.Sprintf(format, args...)}
	}
	var recs [2]record
	var bad [2]bool
	for i := range slots {
		r, err := decode(slots[i][:], macKey)
		switch {
		case errors.Is(err, errAlien):
			return damaged("slot %d: %v", i, err)
		case err != nil:
			bad[i] = true
		case slotOf(r.seq) != i:
			return damaged("record %d stands in slot %d", r.seq, i)
		}
		recs[i] = r
	}
	switch {
	case bad[0] && bad[1]:
		if len(macKey) > 0 {
			return damaged("both records have a bad checksum, or the key of the MAC is another")
		}
		return damaged("both records have a bad checksum")
	case bad[0]:
		return recs[1], true, nil
	case bad[1]:
		return recs[0], true, nil
	}
	low, high := recs[0], recs[1]
	if low.seq > high.seq {
		low, high = high, low
	}
	switch {
	case high.seq != low.seq+1:
		return damaged("records %d and %d are no neighbours: the disk lost a write that it had confirmed", low.seq, high.seq)
	case high.id != low.id:
		return damaged("its records belong to two chains or keys")
	case high.mark.Less(low.mark):
		return damaged("record %d is at %v, below record %d at %v", high.seq, high.mark, low.seq, low.mark)
	}
	return high, false, nil
}

// accept returns why the state in r may not be signed with: it is not that of
// c.ID, it was exported, or it was not written for here.
func (c *Config) accept(r *record, here binding) error {
	if err := c.own(r); err != nil {
		return err
	}
	if r.exported {
		return &fault{err: ErrExported}
	}
	return bound(r, here)
}

// own returns ErrForeign if r belongs to another chain or key.
func (c *Config) own(r *record) error {
	switch {
	case r.id.ChainID != c.ID.ChainID:
		return &fault{err: ErrForeign, detail: fmt.Sprintf("it is of chain %q, not %q", r.id.ChainID, c.ID.ChainID)}
	case r.id.Key != c.ID.Key:
		return &fault{err: ErrForeign, detail: fmt.Sprintf("it is of key %x…, not %x…", r.id.Key[:8], c.ID.Key[:8])}
	}
	return nil
}

// bound returns ErrCopied if r was written for another machine or file.
func bound(r *record, here binding) error {
	switch {
	case r.binding.machine != here.machine:
		return &fault{err: ErrCopied, detail: "it was made on another machine, or /etc/machine-id has changed"}
	case r.binding != here:
		return &fault{err: ErrCopied, detail: fmt.Sprintf("it was made as inode %d, this is inode %d", r.binding.inode, here.inode)}
	}
	return nil
}
