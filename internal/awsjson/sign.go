package awsjson

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"privyseal/internal/secret"
)

// Usable reports whether credentials can stand in headers.
func Usable(c secret.AWS) bool {
	plain := func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	return c.AccessKeyID != "" && c.SecretAccessKey.Reveal() != "" && plain(c.AccessKeyID) && plain(c.SessionToken.Reveal())
}

// IsRegion reports whether s looks like a region of AWS: eu-central-1, us-gov-west-1.
func IsRegion(s string) bool {
	parts := strings.Split(s, "-")
	last := len(parts) - 1
	if last < 2 || len(parts[0]) != 2 || len(parts[last]) > 2 {
		return false
	}
	for i, part := range parts {
		from := "abcdefghijklmnopqrstuvwxyz"
		if i == last {
			from = "0123456789"
		}
		if part == "" || strings.Trim(part, from) != "" {
			return false
		}
	}
	return true
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
func authorize(c secret.AWS, region, service string, at time.Time, headers []header, body []byte) string {
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
	key := mac([]byte("AWS4"+c.SecretAccessKey.Reveal()), date)
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
