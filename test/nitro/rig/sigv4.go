package rig

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"privyseal/internal/secret"
)

// verifySignature checks AWS Signature Version 4 of a request, with the signature
// computed again. Rules: "Create a signed AWS API request" of the IAM guide.
func verifySignature(r *http.Request, body []byte, c secret.AWS, region string, now time.Time) error {
	if r.Header.Get("X-Amz-Security-Token") != c.SessionToken.Reveal() {
		return fmt.Errorf("UnrecognizedClientException: The security token included in the request is invalid.")
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil || now.Sub(at).Abs() > documentLife {
		return fmt.Errorf("InvalidSignatureException: Signature expired: %s", stamp)
	}
	scope := strings.Join([]string{stamp[:8], region, "kms", "aws4_request"}, "/")
	if fields["Credential"] != c.AccessKeyID+"/"+scope {
		return fmt.Errorf("InvalidSignatureException: Credential should be scoped to %s, not %s", scope, fields["Credential"])
	}
	signed := strings.Split(fields["SignedHeaders"], ";")
	for _, must := range []string{"host", "x-amz-date", "x-amz-target"} {
		if !slices.Contains(signed, must) {
			return fmt.Errorf("InvalidSignatureException: '%s' must be a 'SignedHeader' in the AWS Authorization.", must)
		}
	}
	if c.SessionToken.Reveal() != "" && !slices.Contains(signed, "x-amz-security-token") {
		return fmt.Errorf("InvalidSignatureException: 'x-amz-security-token' must be a 'SignedHeader'")
	}
	digest := sha256.Sum256([]byte(canonicalRequest(r, body, signed)))
	key := []byte("AWS4" + c.SecretAccessKey.Reveal())
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	want := mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", stamp, scope, hex.EncodeToString(digest[:])}, "\n"))
	if fields["Signature"] != hex.EncodeToString(want) {
		return fmt.Errorf("InvalidSignatureException: The request signature we calculated does not match the signature you provided.")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func canonicalRequest(r *http.Request, body []byte, signed []string) string {
	var b strings.Builder
	path := (&url.URL{Path: r.URL.Path}).EscapedPath()
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, path, r.URL.Query().Encode())
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&b, "%s:%s\n", name, strings.Join(strings.Fields(value), " "))
	}
	sum := sha256.Sum256(body)
	fmt.Fprintf(&b, "\n%s\n%x", strings.Join(signed, ";"), sum)
	return b.String()
}
