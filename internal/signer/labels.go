package signer

import (
	"errors"
	"slices"

	"privyseal/internal/watermark"
)

// Who raised the mark that a request contradicts: what the reason ends in.
const (
	sameNode  = "_same_node"
	otherNode = "_other_node"
)

// byNode are the reasons that end in who raised the mark.
var byNode = []watermark.Reason{
	watermark.Conflict, watermark.UnknownBytes,
	watermark.HeightRegression, watermark.RoundRegression, watermark.StepRegression,
}

// others are the reasons that stand for themselves.
var others = []watermark.Reason{
	watermark.HeightGap, watermark.HeightLeap, watermark.HeightMax, watermark.HeightFloor,
	watermark.HeightCeiling, watermark.DuplicateSigner,
	wrongChain, invalidRequest, rawBytes,
}

// Reasons returns all that [Event].Reason can be beside "". Each is a label of the
// refusals that are counted, from the start: a counter that is born with its first
// refusal shows no increase.
func Reasons() []string {
	var list []string
	for _, r := range byNode {
		list = append(list, string(r)+sameNode, string(r)+otherNode)
	}
	for _, r := range others {
		list = append(list, string(r))
	}
	slices.Sort(list)
	return list
}

// Fault is what failed where a request was neither answered nor refused; the node
// asks again. Like a reason it is a label, and never changes.
type Fault string

const (
	StoreFault Fault = "store" // the mark could not be loaded, or made durable
	KeyFault   Fault = "key"   // the key failed, or its signature does not verify
	QueueFault Fault = "queue" // other requests were in progress until the time was up
	HeldFault  Fault = "held"  // the chain's witness has yet to let us sign
)

// Faults returns all of them.
func Faults() []Fault { return []Fault{StoreFault, KeyFault, QueueFault, HeldFault} }

// FaultOf returns what failed, or "" where err does not say.
func FaultOf(err error) Fault {
	if errors.Is(err, watermark.ErrHeld) {
		return HeldFault
	}
	if f, ok := errors.AsType[*faultError](err); ok {
		return f.fault
	}
	return ""
}

// faultError is an error that says what failed.
type faultError struct {
	fault Fault
	error
}

func (e *faultError) Unwrap() error { return e.error }

// Reasons for a refusal that the rule of package watermark does not know. Like
// those they are labels, and never change.
const (
	wrongChain     watermark.Reason = "wrong_chain"
	invalidRequest watermark.Reason = "invalid_request"
	rawBytes       watermark.Reason = "raw_bytes"
)
