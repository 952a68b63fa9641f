package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/awsjson"
	"privyseal/internal/secret"
	"privyseal/internal/sharedmark"
	"privyseal/internal/strictjson"
)

// The reasons for which a call fails. They come wrapped in an *[Error].
var (
	ErrDenied      = errors.New("AWS does not allow it to this role")
	ErrNoTable     = errors.New("there is no such table in this region and account")
	ErrRequest     = errors.New("DynamoDB does not understand the request")
	ErrCredentials = errors.New("AWS does not accept the credentials")
	ErrExpired     = errors.New("the AWS credentials have expired")
	ErrClock       = errors.New("the clock of this host is wrong, and AWS refuses what it signs")
	ErrBusy        = errors.New("DynamoDB has had too many requests for the table's capacity")
	ErrUnavailable = errors.New("DynamoDB has an internal failure")
	ErrOther       = errors.New("DynamoDB refuses it in a way that says nothing of what was done")
	ErrConnect     = errors.New("DynamoDB cannot be reached")
	ErrTLS         = errors.New("the server that answers is not DynamoDB by its certificate")
	ErrAnswer      = errors.New("the answer makes no sense")
	// ErrOtherTable comes without an *[Error].
	ErrOtherTable = sharedmark.ErrOther
)

// Error is a call of DynamoDB that failed. It is a [sharedmark.ErrNotSent] if nothing was
// done, and a [sharedmark.ErrRefused] if the next one would fail too.
type Error struct {
	Op        string // "PutItem", …
	Reason    error  // one of those above
	Detail    string // AWS's words, or the cause
	RequestID string // by which AWS's support finds the call

	notSent, final bool
}

func (e *Error) Error() string {
	s := "cannot call " + e.Op + " of DynamoDB: " + e.Reason.Error()
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	if e.RequestID != "" {
		s += " [request " + e.RequestID + "]"
	}
	return s
}

// Unwrap returns the reason, and what follows for whoever called.
func (e *Error) Unwrap() []error {
	list := []error{e.Reason}
	if e.notSent {
		list = append(list, sharedmark.ErrNotSent)
	}
	if e.final {
		list = append(list, sharedmark.ErrRefused)
	}
	return list
}

// lostError says that the condition of a request did not hold. item is what was there
// instead, or nil if the server does not say.
type lostError struct{ item item }

func (*lostError) Error() string { return "the condition does not hold" }

// verdict is what a code of AWS means.
type verdict struct {
	reason error
	final  bool
}

// byCode are AWS's names, of the DynamoDB Developer Guide ("Error handling"), the errors of
// PutItem in its API Reference, and "Common Error Types". Of each of them AWS says that the
// request was rejected: for what it is, for who sent it, or because there was no room for it.
// Any other code may come after it was executed, and so may one of these with another status
// than 4xx. Left out on purpose are
//   - InternalServerError, InternalFailure, ServiceUnavailable: whoever stands before the
//     table has had no answer from it;
//   - RequestAbortedException, RequestTimeoutException (4xx): about the connection, not about
//     what was done;
//   - ReplicatedWriteConflictException: of tables in several regions, which we refuse;
//   - TransactionInProgressException, IdempotentParameterMismatchException and
//     TransactionCanceledException: of transactions, which we do not make;
//   - ItemCollectionSizeLimitExceededException: of tables with a sort key, which we refuse;
//   - LimitExceededException, ResourceInUseException: of changes to tables.
var byCode = map[string]verdict{
	"AccessDeniedException":                  {ErrDenied, true},
	"AccessDenied":                           {ErrDenied, true},
	"NotAuthorized":                          {ErrDenied, true},
	"OptInRequired":                          {ErrDenied, true},
	"ResourceNotFoundException":              {ErrNoTable, true},
	"TableNotFoundException":                 {ErrNoTable, true},
	"ValidationException":                    {ErrRequest, true},
	"SerializationException":                 {ErrRequest, true},
	"UnknownOperationException":              {ErrRequest, true},
	"UnrecognizedClientException":            {ErrCredentials, false},
	"InvalidClientTokenId":                   {ErrCredentials, false},
	"InvalidSignatureException":              {ErrCredentials, false},
	"IncompleteSignature":                    {ErrCredentials, false},
	"IncompleteSignatureException":           {ErrCredentials, false},
	"MissingAuthenticationToken":             {ErrCredentials, false},
	"MissingAuthenticationTokenException":    {ErrCredentials, false},
	"ExpiredTokenException":                  {ErrExpired, false},
	"ExpiredToken":                           {ErrExpired, false},
	"RequestExpired":                         {ErrClock, true},
	"RequestTimeTooSkewed":                   {ErrClock, true},
	"ProvisionedThroughputExceededException": {ErrBusy, false},
	"ThrottlingException":                    {ErrBusy, false},
	"Throttling":                             {ErrBusy, false},
	"RequestLimitExceeded":                   {ErrBusy, false},
	"TransactionConflictException":           {ErrBusy, false},
}

// refusal makes an error of an answer that is not 200. now is our clock.
func refusal(a *awsjson.Answer, op string, c secret.AWS, now time.Time) error {
	r := a.Refusal(c)
	if r.Code == "ConditionalCheckFailedException" && a.Status == 400 {
		var body struct{ Item item }
		if err := strictjson.Unmarshal(a.Body, &body); err != nil {
			body.Item = nil
		}
		return &lostError{body.Item}
	}
	e := &Error{Op: op, Reason: ErrUnavailable, Detail: r.Code, RequestID: r.RequestID}
	if r.Message != "" {
		e.Detail += ": " + r.Message
	}
	switch v, known := byCode[r.Code]; {
	case known && a.Status/100 == 4:
		e.Reason, e.notSent, e.final = v.reason, true, v.final
	case a.Status < 500:
		e.Reason = ErrOther
	}
	if e.Reason == ErrCredentials && r.Late {
		e.Reason, e.final = ErrClock, true
	}
	switch e.Reason {
	case ErrCredentials:
		e.Detail = r.Code // the message can quote the request
	case ErrClock:
		e.Detail = skew(a.Date, now)
	}
	return e
}

// skew says by how much our clock differs from that of an answer.
func skew(theirs, ours time.Time) string {
	by := ours.Sub(theirs).Round(time.Second)
	switch {
	case theirs.IsZero():
		return "it differs from that of AWS by more than five minutes"
	case by < 0:
		return fmt.Sprintf("it is %v behind that of AWS", -by)
	}
	return fmt.Sprintf("it is %v ahead of that of AWS", by)
}

// failure makes an error of a call that got no answer. sent says that a part of it may have
// left.
func failure(ctx context.Context, op string, err error, sent bool) *Error {
	e := &Error{Op: op, Reason: ErrConnect, Detail: err.Error(), notSent: !sent}
	switch awsjson.FailureOf(ctx, err) {
	case awsjson.NotHTTP:
		e.Reason = ErrAnswer
	case awsjson.NotTLS:
		e.Reason = ErrTLS
	case awsjson.Late:
		e.Detail = "no answer in time"
	}
	return e
}
