package awsjson

import (
	"os"
	"strings"
	"testing"
	"time"

	"privyseal/internal/secret"
)

func TestSignatureVersion4(t *testing.T) {
	file, err := os.ReadFile("testdata/sigv4.txt")
	if err != nil {
		t.Fatal(err)
	}
	creds := secret.AWS{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret.New("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")}
	at := time.Date(2015, 8, 30, 14, 36, 0, 0, time.FixedZone("CEST", 7200))
	n := 0
	for _, part := range strings.Split(string(file), "\n\n")[1:] {
		var name, body, want string
		var headers []header
		for _, line := range strings.Split(strings.TrimSpace(part), "\n") {
			key, value, _ := strings.Cut(line, " ")
			switch key {
			case "name":
				name = value
			case "body":
				body = value
			case "signature":
				want = value
			default:
				key, value, _ := strings.Cut(line, ":")
				headers = append(headers, header{key, value})
			}
		}
		got := authorize(creds, "us-east-1", "service", at, headers, []byte(body))
		if !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=") ||
			!strings.HasSuffix(got, ", Signature="+want) {
			t.Errorf("%s: %s", name, got)
		}
		n++
	}
	if n != 6 {
		t.Errorf("%d requests in the file", n)
	}
}
