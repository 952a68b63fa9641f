package sharedmark

import "context"

// At is the value as an engine has it.
type At struct {
	Value []byte // nil: there is none
	// Revision grows with each write to the value, and names one write of it.
	Revision uint64
}

// Position is where an engine stands, as far as a restore of it shows. What an engine
// does not have is zero.
type Position struct {
	// Medium names the database: of etcd the cluster id, of DynamoDB a hash of the
	// TableId.
	Medium [16]byte
	// Place names where in the database the value is, if the config has a say in that: of etcd a hash
	// of the key. The Medium of an engine that has it is of 8 bytes.
	Place [8]byte
	// Index counts what the engine has done, and never falls. It rises by one at least
	// with each Revision; it is that of when the revision was no higher than Revision.
	Index, Revision uint64
	Term            uint64 // rises with each election, and never falls
	Members         []uint64
}

// Engine keeps one value for several signers. Calls come from one goroutine at a time.
// Each is one try, which ends by itself after a fraction of a second; after an error the
// next call takes another way, as to another member. An error that is an [ErrRefused] would
// be the same on every way.
type Engine interface {
	// Ready makes sure that there is a way to the value. fresh says that it is not the one
	// of the last call; then the position is that after a linearizable read on it.
	Ready(ctx context.Context) (p Position, fresh bool, err error)
	// Read is linearizable: nothing that was acknowledged to anybody before is missing.
	Read(ctx context.Context) (At, error)
	// Swap puts value where old is, if that is there still, value and revision both; now is
	// then the new value. Otherwise nothing is written, won is false, and now is what is
	// there. After an error that is not an [ErrNotSent] the value may be written, now or
	// later, for as long as old stands.
	Swap(ctx context.Context, old At, value []byte) (now At, won bool, err error)
	// Close ends the way. A call of Ready makes another one.
	Close() error
}
