package filestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"privyseal/internal/watermark"
)

// Adopt binds a copied or restored file to this machine and inode. It is for an
// operator who has seen to it that no other copy signs, and that the key has signed
// nothing since this one was made. Where the host or the companion know a higher
// mark, that becomes the mark, so the word need not be right for what happened here.
// A file in order is left as it is; an exported one stays dead (ErrExported), also
// when its live bytes were put back.
func Adopt(c Config) error { return c.explain("adopt", c.adopt(kernel())) }

func (c Config) adopt(sys *system) error {
	return c.change(sys, func(s *Store, problem error) error {
		if !errors.Is(problem, ErrCopied) && !errors.Is(problem, ErrRestored) {
			return problem
		}
		s.cur = s.around.newest(s.cur)
		if err := s.settle(s.cur); err != nil {
			return err
		}
		if s.cur.exported {
			return &fault{err: ErrExported}
		}
		return nil
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
	return c.change(sys, func(s *Store, problem error) error {
		if problem != nil && !errors.Is(problem, ErrExported) {
			return problem
		}
		if err := c.notBelowHost(s.around.host, saved.Mark); err != nil {
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
// first one may have been cut off before anybody saw it. Not where another file of this host
// has gone on meanwhile: ErrRestored.
func Export(c Config) (watermark.Saved, error) {
	saved, err := c.export(kernel())
	return saved, c.explain("export", err)
}

func (c Config) export(sys *system) (saved watermark.Saved, err error) {
	err = c.change(sys, func(s *Store, problem error) error {
		switch {
		case problem == nil:
			next := s.cur
			next.exported = true
			problem = s.settle(next)
		case errors.Is(problem, ErrExported):
			problem = s.outdone()
		}
		saved = s.cur.saved()
		return problem
	})
	if err != nil {
		return watermark.Saved{}, err
	}
	return saved, nil
}

// outdone returns ErrRestored if another file of this host has gone on from where this one has
// ended. One that hosts share is what a move that was cut off has made.
func (s *Store) outdone() error {
	for i := range s.around.host {
		k := &s.around.host[i]
		if k.binding == s.cur.binding || k.shared {
			continue
		}
		if why := k.refutes(s.cur.mark, s.cur.stamp); why != "" {
			return restored("%s", why)
		}
	}
	return nil
}

// change opens the file, makes durable what it holds, and lets f change it. problem
// is why nothing may be signed with it as it is.
func (c Config) change(sys *system, f func(s *Store, problem error) error) (err error) {
	s, err := c.open(context.Background(), sys)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, s.Close()) }()
	problem, err := s.read()
	if err != nil {
		return err
	}
	// A restored or copied record is not kept: the host must not hear of it.
	if problem == nil || errors.Is(problem, ErrExported) {
		if err := s.keep(); err != nil {
			return err
		}
	}
	return f(s, problem)
}

// settle makes r, bound to here and with a new companion, the ruling record, and
// writes it to both slots in turn, so that losing one of them does not bring back
// what stood before. A crash between the two leaves a file that is in order and has
// changed.
func (s *Store) settle(r record) error {
	if err := s.renew(r); err != nil {
		return err
	}
	if err := s.write(s.cur); err != nil {
		return err
	}
	s.ready = true // Close says so in the companion
	return nil
}
