package yubihsm

import "context"

// Transport carries messages to one device and brings back its answers. It is safe for
// concurrent use; messages reach the device one after the other.
type Transport interface {
	// Exchange sends one message and returns the answer to it, of at most [MaxMessage]
	// bytes. It returns when ctx ends, and in any case after some time. After an error it is
	// not known whether the message reached the device, and no answer to it is ever
	// returned to a later call.
	Exchange(ctx context.Context, message []byte) (answer []byte, err error)
	// Close frees what the transport holds. An Exchange that is under way fails.
	Close() error
}
