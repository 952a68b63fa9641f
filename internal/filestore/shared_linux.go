package filestore

import (
	"context"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
)

// Host is what this host remembers of a chain and key since it was booted, for a mark of
// them that hosts share, and that is in no file: a file has the floor of this host. While it is
// open, no other signer of this host signs for them, whatever store its state is in.
type Host struct {
	c      Config
	sys    *system
	files  []hostFile
	here   binding
	known  []record // of other states
	sector [recordSize]byte
}

// Host locks what the host remembers of a chain and key: ErrTwin. What is noted there is the
// mark that the open file is the floor of.
func (s *Store) Host(ctx context.Context, id watermark.ID) (*Host, error) {
	h := &Host{c: s.c, sys: s.sys, here: s.around.here}
	h.c.ID = id
	var err error
	if h.files, err = h.c.lockHost(ctx, s.sys); err != nil {
		return nil, h.c.explain("open", err)
	}
	h.known = others(h.c.readHost(s.sys, h.files, s.ino.Uid), h.here)
	return h, nil
}

// others are the records of other states than the one that is bound to here.
func others(known []record, here binding) []record {
	return slices.DeleteFunc(known, func(k record) bool { return k.binding == here })
}

// Refuses returns why a shared mark at m is not the newest of this host, or "".
func (h *Host) Refuses(m watermark.Mark) string { return refusal(h.known, m) }

func refusal(known []record, m watermark.Mark) string {
	for i := range known {
		k := &known[i]
		stamp := int64(math.MaxInt64)
		if k.shared { // then hosts sign with that one, whoever wrote last
			stamp = math.MinInt64
		}
		if why := k.refutes(m, stamp); why != "" {
			return why
		}
	}
	return ""
}

// NotBelow returns ErrBelow if another state of this host was above m.
func (h *Host) NotBelow(m watermark.Mark) error {
	return h.c.explain("make", h.c.notBelowHost(h.known, m))
}

// Highest returns the highest mark of another state of this host, or the zero mark.
func (h *Host) Highest() watermark.Mark { return highest(h.known) }

func highest(known []record) (m watermark.Mark) {
	for i := range known {
		if m.Less(known[i].mark) {
			m = known[i].mark
		}
	}
	return m
}

// Note notes the shared mark, unless it has ended, or another state of this host refuses it.
func (h *Host) Note(saved watermark.Saved, exported bool) {
	if !exported && h.Refuses(saved.Mark) == "" {
		h.write(saved, exported)
	}
}

// Take notes the shared mark in place of what the host remembers of other states: an
// operator has brought it in after those. Only a higher one stays.
func (h *Host) Take(saved watermark.Saved, exported bool) {
	if !saved.Mark.Less(h.Highest()) {
		h.write(saved, exported)
	}
}

func (h *Host) write(saved watermark.Saved, exported bool) {
	r := record{
		seq: 1, time: saved.Time.UnixNano(), stamp: h.sys.now().UnixNano(), id: h.c.ID, mark: saved.Mark,
		exported: exported, shared: true, mac: len(h.c.MACKey) > 0, binding: h.here,
	}
	if r.check() != nil {
		return
	}
	r.encode(&h.sector, h.c.MACKey)
	for i := range h.files {
		h.files[i].note(h.sys, h.sector[:], h.c.Path)
	}
}

// Close gives it up.
func (h *Host) Close() error {
	unlockHost(h.sys, h.files)
	h.files = nil
	return nil
}

// Beside is what Host says of a shared mark at m, Refuses and Highest, for who only looks. c is
// the floor of it, which may be missing.
func Beside(c Config, id watermark.ID, m watermark.Mark) (why string, highestOther watermark.Mark) {
	sys := kernel()
	var here binding
	if fd, err := sys.open(c.Path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err == nil {
		defer sys.close(fd)
		if here, err = sys.bindingOf(fd); err != nil {
			return "", m
		}
	}
	c.ID = id
	known := others(c.peekHost(sys, uint32(os.Geteuid())), here)
	return refusal(known, m), highest(known)
}
