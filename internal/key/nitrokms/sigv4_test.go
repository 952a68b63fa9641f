package nitrokms

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func TestSignatureVersion4(t *testing.T) {
	file, err := os.ReadFile("testdata/sigv4.txt")
	if err != nil {
		t.Fatal(err)
	}
	creds := Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
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

// Neither a print verb nor a logger shows what is secret.
func TestPrinting(t *testing.T) {
	c := Credentials{AccessKeyID: "AKID", SecretAccessKey: "hush1", SessionToken: "hush2"}
	s := Secret{ChainID: "test-1", KeyType: "ed25519", Public: []byte{1}, Secret: []byte("hush3"), Origin: Generated}
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		fmt.Fprintf(&b, verb+"\n", c)
		fmt.Fprintf(&b, verb+"\n", s)
	}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "c", c, "s", s)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "c", c, "s", s)
	for _, secret := range []string{"hush", fmt.Sprintf("%x", "hush"), fmt.Sprintf("%d", []byte("hush3"))} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("%q shows in\n%s", secret, b.String())
		}
	}
	if !strings.Contains(b.String(), "credentials of AKID") || !strings.Contains(b.String(), `for chain "test-1"`) {
		t.Error(b.String())
	}
}
