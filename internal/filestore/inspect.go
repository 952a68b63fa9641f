package filestore

import (
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
		info.Problem = c.explain("use", &fault{err: ErrUnsafe, detail: "it is no regular file", cure: "correct the key `state` in the config"})
		return info, nil
	}
	f, err := os.Open(c.Path)
	if err != nil {
		return info, err
	}
	defer f.Close()
	here, problem := c.examine(f, &info)
	if err := c.inspectSlots(f, &info, here); problem == nil {
		problem = err
	}
	if c.ID.ChainID == "" {
		c.ID = info.ID
	}
	info.Problem = c.explain("use", problem)
	return info, nil
}

// inspectSlots reads the records of f into info and returns what is wrong with
// them. here is nil where the binding cannot be known.
func (c Config) inspectSlots(f io.ReaderAt, info *Info, here *binding) error {
	cur, torn, err := c.readQuietly(f)
	if err != nil {
		return err
	}
	info.ID, info.Saved, info.Exported, info.Torn = cur.id, cur.saved(), cur.exported, torn
	info.Bound = here != nil && cur.binding == *here
	if c.ID.ChainID == "" {
		c.ID = cur.id
	}
	if here == nil {
		here = &cur.binding
	}
	return c.accept(&cur, *here)
}

// readQuietly reads and judges the slots of a file that may be written to at the
// same time. What looks damaged may be two moments in one view, so it looks
// again before it says so.
func (c Config) readQuietly(f io.ReaderAt) (cur record, torn bool, err error) {
	for range 5 {
		var slots [2][slotSize]byte
		for i := range slots {
			if n, err := f.ReadAt(slots[i][:], int64(i)*slotOffset); n < slotSize && err == io.EOF {
				return record{}, false, &fault{err: ErrDamaged, detail: fmt.Sprintf("slot %d is cut off after %d bytes", i, n)}
			} else if n < slotSize {
				return record{}, false, err
			}
		}
		cur, torn, err = judge(&slots, c.MACKey)
		if err == nil && !torn {
			break
		}
	}
	return cur, torn, err
}
