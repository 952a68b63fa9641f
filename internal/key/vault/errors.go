package vault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
	"privyseal/internal/strictjson"
)

// Error is a call to the server that failed, or an answer that cannot be used.
type Error struct {
	reason reason
	where  string // the key or what else was called, and the address
	detail string // the server's words, or the cause; "" where the reason says it all
	next   string // what an operator does about it
}

// Error returns what failed and, on a line of its own, what to do about it.
func (e *Error) Error() string {
	text := e.where + ": " + string(e.reason)
	if e.detail != "" {
		text += " (" + e.detail + ")"
	}
	if e.next != "" {
		text += "\n" + e.next
	}
	return text
}

// Lasting reports whether it does not pass by itself: another key is in place of ours.
func (e *Error) Lasting() bool { return e.reason == otherKey }

// reason is why a call failed, in words.
type reason string

const (
	sealed       reason = "the server is sealed"
	standby      reason = "the server is a standby and finds no active one"
	redirected   reason = "the server sends us to another one, and redirects are not followed"
	expired      reason = "the token is not valid: it has expired, or was revoked"
	forbidden    reason = "the policies of our token do not allow it"
	refusedLogin reason = "the server does not accept role id and secret id"
	noKey        reason = "there is no such key"
	noMount      reason = "nothing is mounted there, or there is no such namespace"
	tooOld       reason = "the pinned version of the key may no longer sign: min_encryption_version or min_decryption_version was raised above it"
	tooNew       reason = "the key has no such version"
	wrongType    reason = "it is not a key that signs for a validator"
	otherKey     reason = "the key there is not the one that was expected: it was replaced"
	badSignature reason = "the server made a signature that does not verify"
	malformed    reason = "the answer makes no sense"
	slow         reason = "there was no answer in time"
	unreachable  reason = "the server cannot be reached"
	broken       reason = "the connection broke"
	untrusted    reason = "what answers is not this server, or does not use TLS"
	busy         reason = "a rate limit of the server delays requests"
	trouble      reason = "the server has an internal failure"
	refused      reason = "the server refuses the request"
	closed       reason = "it was closed"
	keyExists    reason = "there is a key of that name, and keys are never overwritten"
)

// next says what an operator does about it. The commands are OpenBao's; Vault's have
// the same words after `vault`.
func (c *Client) next(r reason, key string) string {
	switch r {
	case sealed:
		return "unseal it: `bao operator unseal`; signing goes on by itself"
	case standby, redirected:
		return "give the address of the active server, or of one that forwards requests"
	case expired:
		if c.c.TokenFile == "" {
			return "look at the role's token_ttl and token_num_uses: the login succeeded, but its token is refused"
		}
		return "write a new token to " + shell.Word(c.c.TokenFile) + "; it is read without a restart"
	case forbidden:
		if key == "" {
			return ""
		}
		return fmt.Sprintf("give the token a policy with: path \"%[1]s/sign/%[2]s\" { capabilities = [\"update\"] } path \"%[1]s/keys/%[2]s\" { capabilities = [\"read\"] }", c.c.Mount, key)
	case refusedLogin:
		return "write a new secret id to " + shell.Word(c.c.AppRole.SecretIDFile) + "; it is read without a restart"
	case tooOld:
		return "lower it: `bao write " + c.c.Mount + "/keys/" + key + "/config min_encryption_version=0`"
	case otherKey:
		return "find out who replaced it; put the old one back from a backup of the server"
	case untrusted:
		return "compare address, CA file and server name with the server's certificate"
	}
	return ""
}

func (c *Client) fail(r request, why reason, detail string) *Error {
	return &Error{reason: why, where: r.what + " at " + c.base.String(), detail: detail, next: c.next(why, r.key)}
}

func (c *Client) wrongKey(r request, version int, there, want pubkey.Key) error {
	return c.fail(r, otherKey, fmt.Sprintf("version %d is %v, not %v", version, there, want))
}

// transportFailure says why no answer came.
func (c *Client) transportFailure(ctx context.Context, r request, err error) *Error {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var timeout net.Error
	var op *net.OpError
	switch {
	case c.ctx.Err() != nil:
		return c.fail(r, closed, "")
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return c.fail(r, slow, "")
	case errors.As(err, &certificate):
		return c.fail(r, untrusted, printable(certificate.Err.Error()))
	case errors.As(err, &record), errors.As(err, &alert), errors.Is(err, http.ErrSchemeMismatch):
		return c.fail(r, untrusted, printable(unwrapURL(err).Error()))
	case errors.As(err, &op) && op.Op == "dial":
		return c.fail(r, unreachable, printable(op.Err.Error()))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		strings.Contains(err.Error(), "server closed idle connection"): // net/http does not export it
		return c.fail(r, broken, "")
	}
	return c.fail(r, malformed, "it is not HTTP")
}

// refusal says what an answer means that is not a success.
func (c *Client) refusal(r request, a answer, token string) *Error {
	var body struct{ Errors []string }
	words := ""
	// What something on the way answers has no JSON; its status remains.
	if strictjson.Unmarshal(a.body, &body) == nil {
		words = strings.Join(body.Errors, " ")
	}
	why := reasonOf(a.status, words, r.login)
	detail := ""
	switch why {
	case redirected, malformed, noMount, busy, trouble, refused:
		detail = printable(strings.TrimSpace(fmt.Sprintf("HTTP status %d ", a.status) + hide(words, token)))
	}
	return c.fail(r, why, detail)
}

// reasonOf maps status and words of Vault and OpenBao.
func reasonOf(status int, words string, login bool) reason {
	has := func(text string) bool { return strings.Contains(words, text) }
	switch {
	case status < 200:
		return malformed
	case status < 400:
		return redirected
	case status == 503 && has("sealed"):
		return sealed
	case has("local node not active"):
		return standby
	case login && (status == 400 || status == 403):
		return refusedLogin
	// A token that the server does not know gets these words, one that its policies hold
	// up the same in a list: "1 error occurred: …".
	case status == 403 && (words == "permission denied" || has("invalid token")):
		return expired
	case status == 403:
		return forbidden
	case has("no handler for route"), has("namespace not found"):
		return noMount
	case status == 404, has("signing key not found"), has("encryption key not found"):
		return noKey
	case has("less than the minimum encryption key version"), has("version is too old"):
		return tooOld
	case has("higher than the latest key version"):
		return tooNew
	case has("with an existing key"):
		return keyExists
	case status == 429:
		return busy
	case status >= 500:
		return trouble
	}
	return refused
}

// unwrapURL takes method and address out of what net/http returns: our own text has
// them.
func unwrapURL(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// hide takes a secret that the server sends back to us out of its words.
func hide(words, secret string) string {
	if secret == "" {
		return words
	}
	return strings.ReplaceAll(words, secret, "(hidden)")
}

// printable returns words of the server as one line of bounded length.
func printable(words string) string {
	words = strings.Join(strings.Fields(words), " ")
	if len(words) > 300 {
		words = strings.ToValidUTF8(words[:300], "") + "…"
	}
	return shell.Line(words)
}
