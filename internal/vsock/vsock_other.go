//go:build !linux

package vsock

import (
	"context"
	"errors"
	"net"
)

// Listen is there on Linux only.
func Listen(uint32) (net.Listener, error) { return nil, errors.ErrUnsupported }

// DialReserved is there on Linux only.
func DialReserved(context.Context, uint32, uint32) (Conn, error) { return nil, errors.ErrUnsupported }

func mayReserve() error { return errors.ErrUnsupported }

// Dial is there on Linux only.
func Dial(context.Context, uint32, uint32) (Conn, error) { return nil, errors.ErrUnsupported }
