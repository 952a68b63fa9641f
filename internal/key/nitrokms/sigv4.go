package nitrokms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// Credentials are AWS credentials. They are worth nothing for a key whose policy
// asks for an attestation document, and still go to nobody but KMS. Printed or
// logged, they show the access key's id.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string    // empty for a user's long-term credentials
	Expires         time.Time // zero if unknown or never; not used here
}

// String returns the id, which is not secret.
func (c Credentials) String() string { return "credentials of " + c.AccessKeyID }

// Format prints what String returns, whatever the verb.
func (c Credentials) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// LogValue is what slog logs: what String returns.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// usable reports whether the credentials can stand in headers.
func (c Credentials) usable() bool {
	plain := func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	return c.AccessKeyID != "" && c.SecretAccessKey != "" && plain(c.AccessKeyID) && plain(c.SessionToken)
}

// header is a header field: its name in lower case, its value without spaces
// around it.
type header struct{ name, value string }

const (
	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"
	signMethod = "AWS4-HMAC-SHA256"
)

// authorize returns the value of the Authorization header of a POST to "/":
// Signature Version 4, "Create a signed AWS API request" of the IAM User Guide.
// The headers are sorted by name; host and x-amz-date are among them.
func authorize(c Credentials, region, service string, at time.Time, headers []header, body []byte) string {
	var names []string
	var canonical strings.Builder
	canonical.WriteString("POST\n/\n\n")
	for _, h := range headers {
		names = append(names, h.name)
		canonical.WriteString(h.name + ":" + h.value + "\n")
	}
	signed := strings.Join(names, ";")
	canonical.WriteString("\n" + signed + "\n" + hexSum(body))

	date := at.UTC().Format(dateFormat)
	scope := date + "/" + region + "/" + service + "/aws4_request"
	toSign := signMethod + "\n" + at.UTC().Format(timeFormat) + "\n" + scope + "\n" + hexSum([]byte(canonical.String()))
	key := mac([]byte("AWS4"+c.SecretAccessKey), date)
	for _, part := range []string{region, service, "aws4_request"} {
		key = mac(key, part)
	}
	return signMethod + " Credential=" + c.AccessKeyID + "/" + scope + ", SignedHeaders=" + signed +
		", Signature=" + hex.EncodeToString(mac(key, toSign))
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
