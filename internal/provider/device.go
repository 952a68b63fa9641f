package provider

import "time"

// Watched is a [Key] that devices or servers sign with, each of which may fail by itself.
type Watched interface {
	// Devices returns how each does, in the order in which they are asked. It waits for none,
	// not for one that hangs either. What it returns is shown to operators and becomes labels
	// of metrics: no secret is in it, and no address twice.
	Devices() []Device
}

// Device is how a device or server does that signs with a key.
type Device struct {
	Address string
	Name    string // what it says about itself, "" if it was never reached
	// Failed is why it is not asked to sign while another one does, "" if nothing is wrong
	// with it, and Since when it last became "" or something else.
	Failed string
	Since  time.Time
	// Signatures counts those with this key, and Took is how long they took in seconds,
	// LastTook the last one, without the time in a queue of ours.
	Signatures     uint64
	Took, LastTook float64
	// LogUsed and LogSize are entries of the audit log of a device that has one.
	LogUsed, LogSize int
	// Audited says that the signer drains this log and checks what is in it, and Undrained
	// why it cannot, "" if it can. Foreign counts the signatures with this key in it that no
	// signer of ours asked for.
	Audited   bool
	Undrained string
	Foreign   int
}
