package awsjson

import (
	"encoding/json"
	"net/textproto"
	"testing"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/secret"
)

func TestRefusals(t *testing.T) {
	creds := secret.AWS{AccessKeyID: "ASIA", SecretAccessKey: secret.New("s"), SessionToken: secret.New("very-secret-session-token")}
	for _, test := range []struct {
		status              int
		header, code, words string
		want                Refusal
	}{
		{400, "", "ThrottlingException", "Rate exceeded", Refusal{Code: "ThrottlingException", Message: "Rate exceeded"}},
		{400, "", "com.amazonaws.kms#AccessDeniedException", "no", Refusal{Code: "AccessDeniedException", Message: "no"}},
		{400, "", "AccessDeniedException:http://internal.amazon.com/coral/", "no", Refusal{Code: "AccessDeniedException", Message: "no"}},
		{400, "AccessDeniedException:http://x", "", "no", Refusal{Code: "AccessDeniedException", Message: "no"}},
		{503, "", "", "", Refusal{Code: "HTTP status 503"}},
		{400, "", "InvalidSignatureException", "Signature expired: 2000", Refusal{Code: "InvalidSignatureException", Message: "Signature expired: 2000", Late: true}},
		{400, "", "InvalidSignatureException", "Signature not yet current: 2000", Refusal{Code: "InvalidSignatureException", Message: "Signature not yet current: 2000", Late: true}},
		{400, "", "Odd", "x-amz-security-token:very-secret-session-token", Refusal{Code: "Odd"}},
		{400, "", "Odd", "very-secret-sess...", Refusal{Code: "Odd"}},
		// What AWS, or whoever answers, says acts on no terminal.
		{400, "", "Odd\x1b]0;title\x07Exception", "a\x1b[2Jb\x00c\nd\x7f", Refusal{Code: "Odd?]0;title?Exception", Message: "a?[2Jb?c?d?"}},
	} {
		body, err := json.Marshal(map[string]string{"__type": test.code, "message": test.words})
		if err != nil {
			t.Fatal(err)
		}
		a := Answer{Status: test.status, header: textproto.MIMEHeader{"X-Amzn-Requestid": {"id\x1b[31m"}, "X-Amzn-Errortype": {test.header}}, Body: body}
		test.want.RequestID = "id?[31m"
		if diff := cmp.Diff(test.want, a.Refusal(creds)); diff != "" {
			t.Errorf("%s: -want +got\n%s", body, diff)
		}
	}
	a := Answer{Status: 502, Body: []byte("<html>")}
	if diff := cmp.Diff(Refusal{Code: "HTTP status 502"}, a.Refusal(creds)); diff != "" {
		t.Error(diff)
	}
}
