package nitrokms

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"privyseal/internal/awsjson"
	"privyseal/internal/secret"
)

// The reasons for which a call fails. They come wrapped in an *[Error].
var (
	errDenied      = errors.New("KMS does not allow this to this image, role or key")
	errCiphertext  = errors.New("KMS says that the ciphertext is damaged, or was made for another chain or public key")
	errOtherKey    = errors.New("it was encrypted under another KMS key")
	errNotFound    = errors.New("the KMS key does not exist")
	errDisabled    = errors.New("the KMS key is disabled or about to be deleted")
	errKeyUsage    = errors.New("the KMS key is not a symmetric encryption key")
	errCredentials = errors.New("KMS does not accept the AWS credentials")
	errExpired     = errors.New("the AWS credentials have expired")
	errClock       = errors.New("the clocks of KMS and of this enclave differ by more than five minutes")
	errRequest     = errors.New("KMS does not understand the request, or not its attestation document")
	errBusy        = errors.New("KMS has had too many requests")
	errUnavailable = errors.New("KMS has an internal failure")
	errConnect     = errors.New("KMS cannot be reached")
	errTLS         = errors.New("the server that answers is not KMS by the name and roots of the policy")
	errAnswer      = errors.New("KMS's answer is malformed")
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
	return e.Reason == errBusy || e.Reason == errUnavailable || e.Reason == errConnect
}

// Cure returns what an operator does next.
func (e *Error) Cure() string {
	switch e.Reason {
	case errDenied:
		return "compare the key policy with what runs: `privyseal nitro measure IMAGE` prints PCR0, PCR1, PCR2 and PCR8, and `privyseal nitro key-policy` a policy that fits them; " +
			"the role, PCR3 or PCR4 and the encryption context have to match too, and an enclave in debug mode has zeros"
	case errCiphertext:
		return "put the wrapped key back from its backup; it opens only for the chain and the public key that it was made with"
	case errOtherKey:
		return "build an image whose policy names the KMS key that it was encrypted under"
	case errNotFound:
		return "compare kms_key in the policy with `aws kms describe-key`, region and account included"
	case errDisabled:
		return "run `aws kms enable-key`, or `aws kms cancel-key-deletion` and then `aws kms enable-key`"
	case errKeyUsage:
		return "make a key with `aws kms create-key` and no other options, and name it in the policy"
	case errCredentials:
		return "check that the instance has the role of the key policy, or the static credentials in the config"
	case errExpired:
		return "start again with fresh credentials; those of a role renew themselves, exported ones do not"
	case errClock:
		return "restart the enclave with `privyseal nitro stop`: its clock is the hypervisor's, and not the instance's"
	case errRequest:
		return "check that the enclave does not run in debug mode and that its clock is right"
	case errBusy, errUnavailable:
		return "wait, and look at the health of AWS KMS in this region"
	case errConnect:
		return "check kms_endpoint in the policy, and that the host reaches it: security groups, routes, VPC endpoint"
	case errTLS:
		return "check kms_server_name and tls_roots in the policy, and that no proxy on the way opens TLS"
	}
	return ""
}

// byCode are AWS's names, of the KMS API Reference ("Common Errors", Decrypt,
// GenerateDataKey).
var byCode = map[string]error{
	"AccessDeniedException":               errDenied,
	"NotAuthorized":                       errDenied,
	"InvalidGrantTokenException":          errDenied,
	"OptInRequired":                       errDenied,
	"InvalidCiphertextException":          errCiphertext,
	"IncorrectKeyException":               errOtherKey,
	"NotFoundException":                   errNotFound,
	"DisabledException":                   errDisabled,
	"KMSInvalidStateException":            errDisabled,
	"InvalidKeyUsageException":            errKeyUsage,
	"UnrecognizedClientException":         errCredentials,
	"InvalidClientTokenId":                errCredentials,
	"InvalidSignatureException":           errCredentials,
	"IncompleteSignature":                 errCredentials,
	"IncompleteSignatureException":        errCredentials,
	"MissingAuthenticationToken":          errCredentials,
	"MissingAuthenticationTokenException": errCredentials,
	"ExpiredTokenException":               errExpired,
	"ExpiredToken":                        errExpired,
	"RequestExpired":                      errClock,
	"RequestTimeTooSkewed":                errClock,
	"ThrottlingException":                 errBusy,
	"Throttling":                          errBusy,
	"TooManyRequestsException":            errBusy,
	"LimitExceededException":              errBusy,
	"DependencyTimeoutException":          errUnavailable,
	"KeyUnavailableException":             errUnavailable,
	"KMSInternalException":                errUnavailable,
	"InternalFailure":                     errUnavailable,
	"ServiceUnavailable":                  errUnavailable,
	"ServiceUnavailableException":         errUnavailable,
}

// refusal makes an error of an answer that is not 200.
func refusal(a *awsjson.Answer, op string, c secret.AWS) *Error {
	r := a.Refusal(c)
	e := &Error{Op: op, Code: r.Code, Message: r.Message, RequestID: r.RequestID}
	reason, known := byCode[r.Code]
	switch {
	case known:
		e.Reason = reason
	case a.Status == 429:
		e.Reason = errBusy
	case a.Status >= 500:
		e.Reason = errUnavailable
	default:
		e.Reason = errRequest
	}
	if e.Reason == errCredentials && r.Late {
		e.Reason = errClock
	}
	// Such a message can quote the request.
	if e.Reason == errCredentials {
		e.Message = ""
	}
	return e
}

// failure makes an error of a call that got no answer.
func failure(ctx context.Context, op string, err error) *Error {
	e := &Error{Op: op, Reason: errConnect, Message: err.Error()}
	switch awsjson.FailureOf(ctx, err) {
	case awsjson.NotHTTP:
		e.Reason = errAnswer
	case awsjson.NotTLS:
		e.Reason = errTLS
	case awsjson.Late:
		e.Message = "no answer in time"
	}
	return e
}
