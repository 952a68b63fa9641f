package sharedstate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"

	"privyseal/internal/filestore"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// kinds are those of the databases of a build. A host that has had a state in one of each, one
// after the other, keeps a floor of each, so that none is measured by what was seen of another,
// and each old one binds when the state comes back.
var kinds = []string{"etcd", "dynamodb"}

// floors are what a host keeps of one state: where they lie, the zero id where they are only
// looked at, and the kind of the database that has the state now, "" where none ever has it beside.
type floors struct {
	state string // the path before what a floor's has more
	id    watermark.ID
	kind  string
}

// of says where the floor of a database of a kind is. The first kind's has the name that a floor
// has where there are no kinds.
func (f floors) of(kind string) filestore.Config {
	c := filestore.Config{Path: f.state + ".floor", Host: filestore.HostFolders()}
	if f.id != (watermark.ID{}) {
		c.ID = sharedmark.Config{ID: f.id}.FloorID()
	}
	if kind == "" || kind == kinds[0] {
		return c
	}
	c.Path = f.state + "." + kind + ".floor"
	if f.id != (watermark.ID{}) {
		c.ID.Key = sha256.Sum256(append([]byte("privyseal floor of "+kind+" 1\x00"), c.ID.Key[:]...))
	}
	return c
}

// own says where the floor of the database is that has the state now. That of one without members was
// once where that of one with members is: there it stays.
func (f floors) own() filestore.Config {
	own, first := f.of(f.kind), f.of("")
	if own.Path == first.Path {
		return own
	}
	if _, err := os.Lstat(own.Path); err != nil && len(filestore.Remembered(own).SignBytes) == 0 {
		if seen, err := seenOf(first); err == nil && sharedmark.Memberless(seen) {
			return first
		}
	}
	return own
}

// seenOf returns the mark that holds a floor, or what the host remembers of it where the file is
// gone; without sign bytes there is none.
func seenOf(c filestore.Config) (watermark.Mark, error) {
	floor, err := filestore.Inspect(c)
	if errors.Is(err, filestore.ErrMissing) {
		return filestore.Remembered(c), nil
	}
	if err == nil {
		err = floor.Problem
	}
	return floor.Saved.Mark, err
}

// ended returns the highest mark at which the state has ended in databases of other kinds, as far
// as this host has seen: it goes on above that. One that has not ended, or of which that is not
// known, is alive: whoever signs there does not see what is signed here.
func (f floors) ended() (highest watermark.Mark, alive *alive) {
	if f.kind == "" || f.id == (watermark.ID{}) {
		return highest, nil
	}
	own := f.own().Path
	for _, kind := range slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return f.of(kind).Path == own }) {
		known, alive := endOf(f.of(kind))
		if alive != nil {
			return highest, alive
		}
		if highest.Less(known) {
			highest = known
		}
	}
	return highest, nil
}

// alive is a state that has not ended in a database, by the path of the floor of that.
type alive struct{ floor, why string }

// endOf returns the mark at which the state of a floor has ended, the zero mark where there is no
// floor.
func endOf(c filestore.Config) (watermark.Mark, *alive) {
	seen, err := seenOf(c)
	if err == nil && len(seen.SignBytes) == 0 {
		return watermark.Mark{}, nil
	}
	known, exported, unread := sharedmark.Known(seen)
	if err = errors.Join(err, unread); err != nil {
		return known, &alive{c.Path, fmt.Sprintf("is not readable: %v", err)}
	}
	if !exported {
		return known, &alive{c.Path, fmt.Sprintf("is at %v there, and has not ended", known)}
	}
	return known, nil
}
