package filestore

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Inspect reads a state file without locking or changing it, while another
// process may have it open. With a zero c.ID it takes any chain and key. What
// keeps the file from being used stands in Info.Problem; the error, an *[Error],
// says that it cannot be read at all.
func Inspect(c Config) (Info, error) {
	// Stat first: opening a fifo would hang.
	info, err := c.inspectPath()
	if err != nil {
		return Info{}, c.explain("read", err)
	}
	return info, nil
}

func (c Config) inspectPath() (info Info, err error) {
	fi, err := os.Lstat(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return info, &fault{err: ErrMissing}
	}
	if err != nil {
		return info, err
	}
	info.Mode = fi.Mode()
	if !fi.Mode().IsRegular() {
		info.Problem = c.explain("use", &fault{err: ErrUnsafe, detail: "it is not a regular file", cure: "correct the key `state` in the config"})
		return info, nil
	}
	f, err := os.Open(c.Path)
	if err != nil {
		return info, err
	}
	defer f.Close()
	problem := c.examine(f, &info)
	if err := c.inspectSlots(f, &info); problem == nil {
		problem = err
	}
	if c.ID.ChainID == "" {
		c.ID = info.ID
	}
	info.Problem = c.explain("use", problem)
	return info, nil
}

// inspectSlots reads the records of f into info and returns what is wrong with
// them. The file may be written to at the same time: what looks wrong may be two
// moments in one view, so it looks again before it says so.
func (c Config) inspectSlots(f *os.File, info *Info) (problem error) {
	for range 5 {
		var v view
		if v, problem = c.look(f); v.cur.seq != 0 {
			info.ID, info.Saved, info.Exported, info.Torn, info.Bound = v.cur.id, v.cur.saved(), v.cur.exported, v.flawed, v.bound
			info.Newest, info.Ended = v.newest.saved(), v.newest.exported
		}
		if problem == nil && !v.flawed {
			break
		}
	}
	return problem
}

// view is what one look at a state has seen.
type view struct {
	cur    record
	newest record // as it has to be adopted
	flawed bool
	bound  bool
}

// look reads the slots of f once. What the host knows is read before them, when it
// cannot be ahead of them, and the companions before and after: one of them is the
// one that the record names.
func (c Config) look(f *os.File) (v view, err error) {
	if c.ID.ChainID == "" {
		if v, err = c.readSlots(f); v.cur.seq == 0 {
			return v, err
		}
		c.ID = v.cur.id
	}
	around, err := c.surroundings(f)
	if err != nil {
		return v, err
	}
	v, problem := c.readSlots(f)
	if v.newest = v.cur; v.cur.seq == 0 {
		return v, problem
	}
	if err := c.own(&v.cur); err != nil || problem != nil {
		return v, cmp.Or(err, problem)
	}
	if around == nil { // nothing is known of files here
		return v, c.accept(&v.cur, &surroundings{here: v.cur.binding, host: []record{v.cur}})
	}
	v.bound = v.cur.binding == around.here
	after, err := c.surroundings(f)
	if err != nil {
		return v, err
	}
	after.host, after.companions = around.host, append(after.companions, around.companions...)
	v.newest = after.newest(v.cur)
	return v, c.accept(&v.cur, after)
}

// readSlots reads and judges the slots. The record is there with ErrRestored too.
func (c Config) readSlots(f io.ReaderAt) (v view, err error) {
	var slots [2][slotSize]byte
	for i := range slots {
		n, err := f.ReadAt(slots[i][:], int64(i)*slotOffset)
		if n < slotSize && err == io.EOF {
			return v, &fault{err: ErrDamaged, detail: fmt.Sprintf("slot %d is cut off after %d bytes", i, n)}
		}
		if n < slotSize {
			return v, err
		}
	}
	v.cur, v.flawed, err = judge(&slots, c.MACKey)
	return v, err
}
