package nitrokms

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"privyseal/internal/strictjson"
)

// The reasons for which a call fails. They come wrapped in an *[Error].
var (
	ErrDenied      = errors.New("KMS does not allow it to this image, role or key")
	ErrCiphertext  = errors.New("KMS says that the ciphertext is damaged, or was made for another chain or public key")
	ErrOtherKey    = errors.New("it was encrypted under another KMS key")
	ErrNotFound    = errors.New("KMS knows no such key")
	ErrDisabled    = errors.New("the KMS key is disabled or about to be deleted")
	ErrKeyUsage    = errors.New("the KMS key is no symmetric encryption key")
	ErrCredentials = errors.New("KMS does not accept the AWS credentials")
	ErrExpired     = errors.New("the AWS credentials have expired")
	ErrClock       = errors.New("the clocks of KMS and of this enclave differ by more than five minutes")
	ErrRequest     = errors.New("KMS does not understand the request, or not its attestation document")
	ErrBusy        = errors.New("KMS has had too many requests")
	ErrUnavailable = errors.New("KMS is in trouble")
	ErrConnect     = errors.New("KMS cannot be reached")
	ErrTLS         = errors.New("what answers is not KMS under the name and roots of the policy")
	ErrAnswer      = errors.New("KMS's answer is malformed")
)

// Error is a call to KMS that failed.
type Error struct {
	Op        string // "Decrypt" or "GenerateDataKey"
	Reason    error  // one of those above
	Code      string // AWS's name for it, if KMS answered
	Message   string // AWS's words, or the cause
	RequestID string // by which CloudTrail and AWS's support find the call
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot call %s of KMS: %v", e.Op, e.Reason)
	if detail := strings.TrimSpace(e.Code + " " + e.Message); detail != "" {
		fmt.Fprintf(&b, " (%s)", detail)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " [request %s]", e.RequestID)
	}
	return b.String()
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Reason }

// Temporary reports whether the same call may succeed later with nothing
// changed.
func (e *Error) Temporary() bool {
	return e.Reason == ErrBusy || e.Reason == ErrUnavailable || e.Reason == ErrConnect
}

// Cure returns what an operator does next.
func (e *Error) Cure() string {
	switch e.Reason {
	case ErrDenied:
		return "compare the key policy with what runs: `privyseal nitro measure IMAGE` prints PCR0, PCR1, PCR2 and PCR8, and `privyseal nitro policy` a policy that fits them; " +
			"the role, PCR3 or PCR4 and the encryption context have to match too, and an enclave in debug mode has zeros"
	case ErrCiphertext:
		return "put the wrapped key back from its backup; it opens for the chain and the public key only that it was made with"
	case ErrOtherKey:
		return "build an image whose policy names the KMS key that it was encrypted under"
	case ErrNotFound:
		return "compare kms_key in the policy with `aws kms describe-key`, region and account included"
	case ErrDisabled:
		return "run `aws kms enable-key`, or `aws kms cancel-key-deletion` and then `aws kms enable-key`"
	case ErrKeyUsage:
		return "make a key with `aws kms create-key` and no other options, and name it in the policy"
	case ErrCredentials:
		return "check that the instance has the role of the key policy, or the static credentials in the config"
	case ErrExpired:
		return "start again with fresh credentials; those of a role renew themselves, exported ones do not"
	case ErrClock:
		return "restart the enclave with `privyseal nitro stop`: its clock is the hypervisor's, and not the instance's"
	case ErrRequest:
		return "check that the enclave does not run in debug mode and that its clock is right"
	case ErrBusy, ErrUnavailable:
		return "wait, and look at the health of AWS KMS in this region"
	case ErrConnect:
		return "check kms_endpoint in the policy, and that the host reaches it: security groups, routes, VPC endpoint"
	case ErrTLS:
		return "check kms_server_name and tls_roots in the policy, and that no proxy on the way opens TLS"
	}
	return ""
}

// byCode are AWS's names, of the KMS API Reference ("Common Errors", Decrypt,
// GenerateDataKey).
var byCode = map[string]error{
	"AccessDeniedException":               ErrDenied,
	"NotAuthorized":                       ErrDenied,
	"InvalidGrantTokenException":          ErrDenied,
	"OptInRequired":                       ErrDenied,
	"InvalidCiphertextException":          ErrCiphertext,
	"IncorrectKeyException":               ErrOtherKey,
	"NotFoundException":                   ErrNotFound,
	"DisabledException":                   ErrDisabled,
	"KMSInvalidStateException":            ErrDisabled,
	"InvalidKeyUsageException":            ErrKeyUsage,
	"UnrecognizedClientException":         ErrCredentials,
	"InvalidClientTokenId":                ErrCredentials,
	"InvalidSignatureException":           ErrCredentials,
	"IncompleteSignature":                 ErrCredentials,
	"IncompleteSignatureException":        ErrCredentials,
	"MissingAuthenticationToken":          ErrCredentials,
	"MissingAuthenticationTokenException": ErrCredentials,
	"ExpiredTokenException":               ErrExpired,
	"ExpiredToken":                        ErrExpired,
	"RequestExpired":                      ErrClock,
	"RequestTimeTooSkewed":                ErrClock,
	"ThrottlingException":                 ErrBusy,
	"Throttling":                          ErrBusy,
	"TooManyRequestsException":            ErrBusy,
	"LimitExceededException":              ErrBusy,
	"DependencyTimeoutException":          ErrUnavailable,
	"KeyUnavailableException":             ErrUnavailable,
	"KMSInternalException":                ErrUnavailable,
	"InternalFailure":                     ErrUnavailable,
	"ServiceUnavailable":                  ErrUnavailable,
	"ServiceUnavailableException":         ErrUnavailable,
}

// refusal makes an error of an answer that is not 200: {"__type": code,
// "message": text}, code perhaps behind a prefix and "#".
func (a *answer) refusal(op string, c Credentials) *Error {
	var body struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	// An answer of something in between has no JSON; its status remains.
	if err := strictjson.Unmarshal(a.body, &body); err != nil {
		body.Type, body.Message = "", ""
	}
	code := cmp.Or(body.Type, a.header.Get("X-Amzn-Errortype"))
	code, _, _ = strings.Cut(code[strings.LastIndexByte(code, '#')+1:], ":")
	e := &Error{Op: op, Code: printable(code, 60), Message: printable(body.Message, 300),
		RequestID: printable(a.header.Get("X-Amzn-Requestid"), 60)}
	reason, known := byCode[code]
	switch {
	case known:
		e.Reason = reason
	case a.status == 429:
		e.Reason = ErrBusy
	case a.status >= 500:
		e.Reason = ErrUnavailable
	default:
		e.Reason = ErrRequest
	}
	if e.Code == "" {
		e.Code = fmt.Sprintf("HTTP status %d", a.status)
	}
	late := strings.HasPrefix(body.Message, "Signature expired") || strings.HasPrefix(body.Message, "Signature not yet current")
	if e.Reason == ErrCredentials && late {
		e.Reason = ErrClock
	}
	// Such a message can quote the request, with the session token in it.
	if e.Reason == ErrCredentials || c.SessionToken != "" && strings.Contains(e.Message, c.SessionToken[:min(len(c.SessionToken), 16)]) {
		e.Message = ""
	}
	return e
}

// printable returns at most n bytes of s, and only ASCII that changes no
// terminal and no log line.
func printable(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), n)]
}

// failure makes an error of a call that got no answer.
func failure(ctx context.Context, op string, err error) *Error {
	e := &Error{Op: op, Reason: ErrConnect, Message: err.Error()}
	var record tls.RecordHeaderError
	var cert *tls.CertificateVerificationError
	var alert *net.OpError // what crypto/tls makes of an alert, sent or received
	var timeout net.Error
	switch {
	case errors.Is(err, errHTTP):
		e.Reason = ErrAnswer
	case errors.As(err, &cert), errors.As(err, &record), errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error"):
		e.Reason = ErrTLS
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		e.Message = "no answer in time"
	}
	return e
}
