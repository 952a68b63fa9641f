// Package filestore keeps one mark in one file of the local disk: the default
// [watermark.Store].
//
// The file holds two records in two slots, written by turns, each record twice
// (record.go has the format). A write goes to the slot of the older record with
// one pwrite and one fdatasync, so the newer one stays untouched until the write
// is durable.
//
// Opening a file locks it against every other process (flock), and all that sign
// for its chain and key on this host. A file is bound to the machine and the inode
// that it was made for: a copy may be older than what the key has signed, and is
// refused ([ErrCopied]) until somebody has looked and said so ([Adopt]). So is a
// file whose bytes were put back, by whatever program ([ErrRestored]); judge.go
// says how that is known. Nothing here ever creates or overwrites state unasked.
//
// It is not a defence against root, who can do all that we do. What one host cannot
// see is a snapshot of the whole disk or machine that is rolled back, with or
// without its memory, or a clone on another host: all that we could compare with
// went back too. That is the business of a witness.
//
// What is trusted: that fdatasync does what it says on the file systems that
// are allowed here, and that a sector of 512 bytes holds, after a loss of
// power, its old or its new content or gives a read error. NVMe demands that of
// every device (NVM Command Set, AWUPF is at least one logical block). A sector
// that reads as garbage is damage; its twin stands in for it, and if that is bad
// too the file is refused.
package filestore

import (
	"io/fs"
	"time"

	"privyseal/internal/watermark"
)

// Config says which state is meant.
type Config struct {
	// Path of the state file. Required. No symbolic link.
	Path string
	// ID is what the marks belong to. Required, except for Inspect. The chain
	// id is 1 to 50 bytes long.
	ID watermark.ID
	// MACKey authenticates the records with HMAC-SHA256. Without it they carry
	// a plain SHA-256, which finds damage but no forger. A state made with a
	// key is opened only with that key, and one made without only without.
	MACKey []byte
	// Host are folders, best in memory, where the host keeps the last record of each
	// chain and key, and its lock. Programs give HostFolders; without any, a restore
	// is seen less surely, and other homes are not locked out.
	Host []string
	// Wait makes Open wait for the lock until its context ends. Otherwise a
	// locked state is ErrLocked at once, and ErrTwin where the host holds the lock.
	Wait bool
}

// Info is what a state file looks like from outside.
type Info struct {
	ID    watermark.ID
	Saved watermark.Saved
	// Exported says that the state was handed to another host and is dead here.
	Exported bool
	// Newest is what [Adopt] would raise the state to: the highest mark that the file,
	// what is beside it and the host know. Ended says that Adopt would refuse, since the
	// newest of them is an export.
	Newest watermark.Saved
	Ended  bool
	// Torn says that one copy of a record has a bad checksum. Its twin stands in for
	// it, and the next writes repair it.
	Torn bool
	// Instance names machine and file, in hexadecimal. It is the same for as long as
	// the file exists, and empty where it cannot be known.
	Instance string
	// Bound says that the file is bound to this machine and this inode. False
	// where that cannot be known (anywhere but on Linux).
	Bound bool
	Mode  fs.FileMode
	// Filesystem is the name of the file system, as in mount(8). Empty where it
	// cannot be known.
	Filesystem string
	// Problem is why Open or Load would refuse the file, an *[Error], or nil.
	// ID and Saved are zero if it is ErrDamaged.
	Problem error
}

// CompanionSuffix is what the path of a state is followed by in the name of the file
// beside it. The two belong together, and move together.
const CompanionSuffix = ".gen"

func (r *record) saved() watermark.Saved {
	return watermark.Saved{Mark: r.mark, Version: r.seq, Time: time.Unix(0, r.time)}
}
