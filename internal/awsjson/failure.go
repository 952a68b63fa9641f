package awsjson

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
)

// Failure is why a call got no answer of AWS.
type Failure int

const (
	Unreachable Failure = iota // nobody answers there
	Late                       // not within the time that the call had
	NotTLS                     // who answers is another one by the certificate, or speaks no TLS
	NotHTTP                    // what came makes no sense
)

// FailureOf returns why a call with a context failed with an error.
func FailureOf(ctx context.Context, err error) Failure {
	var record tls.RecordHeaderError
	var cert *tls.CertificateVerificationError
	var alert *net.OpError // what crypto/tls makes of an alert, sent or received
	var timeout net.Error
	switch {
	case errors.Is(err, errHTTP):
		return NotHTTP
	case errors.As(err, &cert), errors.As(err, &record), errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error"):
		return NotTLS
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return Late
	}
	return Unreachable
}
