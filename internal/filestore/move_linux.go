package filestore

import (
	"context"
	"errors"
	"fmt"

	"privyseal/internal/watermark"
)

// Adopt binds a copied or restored file to this machine and inode, and changes
// nothing else. It is for an operator who has seen to it that no other copy
// signs, and that the key has signed nothing since this one was made. A file
// that is bound to here already is left as it is; an exported one stays dead
// (ErrExported).
func Adopt(c Config) error { return c.explain("adopt", c.adopt(kernel())) }

func (c Config) adopt(sys *system) error {
	return c.change(sys, func(s *Store) error {
		err := c.accept(&s.cur, s.here)
		if !errors.Is(err, ErrCopied) {
			return err
		}
		return s.settle(s.cur)
	})
}

// Raise moves the state up to a mark from elsewhere, written at saved.Time (the
// zero time is now; the version is ignored). It never lowers: ErrBelow. It brings
// an exported state back to life, for a mark at or above the exported one, and
// binds it to here. A copied state has to be adopted first.
//
// Two marks of the same height, round and step with different sign bytes become
// one without any, so that neither is signed again.
func Raise(c Config, saved watermark.Saved) error {
	return c.explain("raise", c.raise(kernel(), saved))
}

func (c Config) raise(sys *system, saved watermark.Saved) error {
	if saved.Time.IsZero() {
		saved.Time = sys.now()
	}
	return c.change(sys, func(s *Store) error {
		if err := c.accept(&s.cur, s.here); err != nil && !errors.Is(err, ErrExported) {
			return err
		}
		next := s.cur
		switch cur, m := s.cur.mark, saved.Mark; {
		case m.Less(cur):
			return &fault{err: ErrBelow, detail: fmt.Sprintf("%v, the state is at %v", m, cur)}
		case m.Equal(cur) && !s.cur.exported:
			return nil
		case cur.Less(m):
			next.mark, next.time = m, saved.Time.UnixNano()
		case !m.Equal(cur):
			next.mark.SignBytes = nil
		}
		next.exported = false
		return s.settle(next)
	})
}

// Export kills the state and returns what it held, to be imported on another
// host. When Export returns, it is durable that nothing is signed from this file
// again, until Raise revives it. A second Export returns the same mark: the
// first one may have been cut off before anybody saw it.
func Export(c Config) (watermark.Saved, error) {
	saved, err := c.export(kernel())
	return saved, c.explain("export", err)
}

func (c Config) export(sys *system) (saved watermark.Saved, err error) {
	err = c.change(sys, func(s *Store) error {
		err := c.accept(&s.cur, s.here)
		switch {
		case err == nil:
			next := s.cur
			next.exported = true
			err = s.settle(next)
		case errors.Is(err, ErrExported):
			err = nil
		}
		saved = s.cur.saved()
		return err
	})
	if err != nil {
		return watermark.Saved{}, err
	}
	return saved, nil
}

// change opens the file, makes durable what it holds, and lets f change it.
func (c Config) change(sys *system, f func(*Store) error) error {
	s, err := c.open(context.Background(), sys)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.read(); err != nil {
		return err
	}
	return f(s)
}

// settle writes r, bound to here, to both slots in turn, so that losing one of
// them does not bring back what stood before. A crash between the two leaves a
// file that is in order and has changed.
func (s *Store) settle(r record) error {
	r.binding = s.here
	for range 2 {
		if err := s.write(r); err != nil {
			return err
		}
	}
	return nil
}
