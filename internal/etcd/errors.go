package etcd

import (
	"errors"
	"fmt"
)

// ErrNotSent is what an error wraps if the request was certainly not executed and never
// will be: it did not leave, or the member refused it before anything else. Of a request
// that failed with any other error nobody knows whether it was, or will be, executed.
var ErrNotSent = errors.New("the request was not executed")

// Error is a gRPC status other than OK: the member has answered, and the connection can be
// used further. It wraps ErrNotSent where etcd's source shows that the status comes before
// the request is executed.
type Error struct {
	Code    int    // of google.golang.org/grpc/codes
	Message string // printable, at most 1 KiB
}

// The codes of gRPC with which a member refuses something.
const (
	codeUnknown      = 2
	codeArgument     = 3
	CodePermission   = 7
	codeExhausted    = 8 // no space, or too many requests
	codePrecondition = 9
	codeUnavailable  = 14
	codeAuth         = 16
)

// NoSpace reports that the database is full: the member may have executed the request all
// the same, and every member says so until an operator has made room.
func (e *Error) NoSpace() bool {
	return e.Code == codeExhausted && e.Message == "etcdserver: mvcc: database space exceeded"
}

func (e *Error) Error() string { return fmt.Sprintf("etcd: %s (code %d)", e.Message, e.Code) }

// refusals are the statuses with which a member refuses a transaction without having
// executed it: before it proposes the request, or when it applies the request, but before
// it executes it, which every member then does alike. Each was read in the sources of
// 3.4.23, 3.5.35, 3.6.16 and 3.7.3; 3.6 changed two codes. What else a member answers leaves
// the outcome unknown, which is the safe side.
//
// "etcdserver: mvcc: database space exceeded" is not one: quotaApplierV3 executes the
// transaction first and says so afterwards. Timeouts are not, nor is a leader that
// changed or a server that stopped: the proposal is on its way.
var refusals = map[Error]bool{
	{codeArgument, "etcdserver: key is not provided"}:               true,
	{codeArgument, "etcdserver: request is too large"}:              true,
	{CodePermission, "etcdserver: permission denied"}:               true,
	{codeExhausted, "etcdserver: too many requests"}:                true,
	{codePrecondition, "etcdserver: rpc not supported for learner"}: true,
	{codePrecondition, "etcdserver: not capable"}:                   true, // it has just started
	{codeUnavailable, "etcdserver: rpc not supported for learner"}:  true,
	{codeUnavailable, "etcdserver: not capable"}:                    true,
	{codeUnavailable, "etcdserver: no leader"}:                      true, // that is what hasleader asks for
}

// Is reports that the request was not executed, where that is certain.
func (e *Error) Is(target error) bool { return target == ErrNotSent && refusals[*e] }

// notSent says why a request did not leave.
type notSent struct{ why error }

func (e *notSent) Error() string        { return e.why.Error() }
func (e *notSent) Unwrap() error        { return e.why }
func (e *notSent) Is(target error) bool { return target == ErrNotSent }
