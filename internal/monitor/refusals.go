package monitor

import (
	"slices"
	"sync/atomic"

	"privyseal/internal/signer"
)

// otherLabel stands for what an enclave says and we do not know.
const otherLabel = "other"

// reasons are the labels of refusals. There are many, for each node of each chain, and
// nearly all of them stay at 0 forever: they are numbers here, and become series when
// somebody looks.
var reasons = append(signer.Reasons(), otherLabel)

// refusals are the requests of one node that were refused for good, by reason.
type refusals []atomic.Uint64

func newRefusals() refusals { return make(refusals, len(reasons)) }

// count counts one. A reason that we do not know is one of an enclave.
func (r refusals) count(reason string) {
	at := slices.Index(reasons, reason)
	if at < 0 {
		at = len(reasons) - 1 // otherLabel
	}
	r[at].Add(1)
}
