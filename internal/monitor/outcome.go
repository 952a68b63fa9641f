package monitor

import (
	"time"

	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

// Outcome is what became of one request of a node, whoever decided it; see
// [signer.Event]. Node, Kind and Reason become labels.
type Outcome struct {
	Node, Kind              string
	Mark                    watermark.Mark
	Bytes                   int // that were of the node's choice
	Reason                  string
	Err                     error
	Fault                   signer.Fault // where Err is not a refusal
	StoreErrors             int
	Repeated                bool
	Nil                     bool // a vote for no block
	Unknown                 int  // fields of the request that were passed over
	Queue, Store, Sign, All time.Duration
}

// Key is the key of a chain as an operator is to see it: base64, the hexadecimal
// address that the chain knows the validator by, the type, and who keeps it.
type Key struct{ Public, Address, Type, Provider string }
