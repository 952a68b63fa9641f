package nitrokms

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/secret"
)

// calls are those of a sample, with what the fake has to say to each.
var calls = []struct {
	name string
	want error // nil: taken
}{
	{"GenerateDataKey", nil},
	{"Decrypt", nil},
	{"Decrypt of a damaged ciphertext", errCiphertext},
	{"Decrypt without the encryption context", errCiphertext},
	{"Decrypt with a damaged document", errRequest},
}

// A sample has what KMS said, to the byte, and why the client did not take it.
func TestSample(t *testing.T) {
	f := newFakeKMS(t)
	var blob string // of the data key
	f.change = func(op string, a map[string]any) {
		if op == "GenerateDataKey" {
			blob = base64.StdEncoding.EncodeToString(a["CiphertextBlob"].([]byte))
		}
	}
	k := f.client()
	list := k.Sample(t.Context(), creds, "test-1", bytes.Repeat([]byte{2}, 32))
	if len(list) != len(calls) || len(f.requests()) != len(calls) {
		t.Fatalf("%d answers to %d calls", len(list), len(f.requests()))
	}
	for i, s := range list {
		status := "HTTP/1.1 200 X\r\n"
		if calls[i].want != nil {
			status = "HTTP/1.1 400 X\r\n"
		}
		if s.Call != calls[i].name || !errors.Is(s.Err, calls[i].want) || !strings.HasPrefix(string(s.Raw), status) || !bytes.HasSuffix(s.Raw, []byte("}")) {
			t.Errorf("%s: %q, %v", s.Call, s.Raw, s.Err)
		}
		var body bytes.Buffer
		body.ReadFrom(f.requests()[i].Body)
		// One ciphertext is asked for, and no other is ever opened.
		bound := bytes.Contains(body.Bytes(), []byte(`"EncryptionContext":{"privyseal-chain":"test-1","privyseal-public-key":"AgICAgIC`))
		if bound == (i == 3) || bytes.Contains(body.Bytes(), []byte(blob)) != (i != 0 && i != 2) {
			t.Errorf("%s: asked for %s", s.Call, &body)
		}
	}
	if !bytes.Contains(list[0].Raw, []byte(blob)) || k.ear != nil {
		t.Errorf("%q, and the client listens on: %v", list[0].Raw, k.ear)
	}
}

// reply is an answer in HTTP.
func reply(status int, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// What may be a secret stays inside, however it is written.
func TestSampleTellsNoSecrets(t *testing.T) {
	const clear = "VGhpcyBpcyB0aGUga2V5IGluIHRoZSBjbGVhci4uLi4="
	rest := `"KeyId":"` + keyARN + `"}`
	for name, answer := range map[string]string{
		"in the clear":                    reply(200, `{"Plaintext":"`+clear+`",`+rest),
		"in other capitals":               reply(200, `{"plainText":"`+clear+`",`+rest),
		"with an escape":                  reply(200, `{"\u0050laintext":"`+clear+`",`+rest),
		"in chunks":                       "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{\"Plain\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(`text":"`+clear+`",`+rest), `text":"`+clear+`",`+rest),
		"twice":                           reply(200, `{"Plaintext":"`+clear+`","Plaintext":"",`+rest),
		"in JSON that breaks off":         reply(200, `{"Plaintext":"`+clear),
		"in HTTP that breaks off":         "HTTP/1.1 200 X\r\nContent-Length: 5000\r\n\r\n" + `{"Plaintext":"` + clear + `",` + rest,
		"in a refusal":                    reply(400, `{"__type":"SomethingNew","Plaintext":"`+clear+`"}`),
		"in a refusal, in other capitals": reply(400, `{"__type":"SomethingNew","plainText":"`+clear+`"}`),
		"a session token":                 reply(400, `{"__type":"SomethingNew","message":"your very-secret-session-token is wrong `+clear+`"}`),
		"a session token that is cut":     reply(400, `{"__type":"SomethingNew","message":"your very-secret-session … is wrong `+clear+`"}`),
		"a request that is quoted":        reply(403, `{"__type":"InvalidSignatureException","message":"The Canonical String should have been 'POST … `+clear+`'"}`),
		"an unknown token":                reply(400, `{"__type":"UnrecognizedClientException","message":"`+clear+`"}`),
	} {
		f := newFakeKMS(t)
		f.answer = func(string) string { return answer }
		list := f.client().Sample(t.Context(), creds, "", nil)
		if len(list) != 1 || list[0].Err == nil || list[0].Raw != nil {
			t.Errorf("%s: %d answers, the first %q, %v", name, len(list), list[0].Raw, list[0].Err)
		}
		if strings.Contains(fmt.Sprint(list[0].Err), clear) {
			t.Errorf("%s: in %v", name, list[0].Err)
		}
	}
	// What has nothing of that is told.
	for name, answer := range map[string]string{
		"a refusal":            reply(400, `{"__type":"AccessDeniedException","message":"User: x is not authorized"}`),
		"an empty field":       reply(400, `{"__type":"AccessDeniedException"}`),
		"no JSON":              reply(200, `hello`),
		"no HTTP":              "SSH-2.0-OpenSSH_9.2\r\n",
		"an answer cut off":    "HTTP/1.1 200 X\r\nContent-Length: 5000\r\n\r\n{}",
		"a key of another ARN": reply(200, `{"KeyId":"arn"}`),
		"no envelope":          reply(200, `{"CiphertextForRecipient":"AAAA",`+rest),
	} {
		f := newFakeKMS(t)
		f.answer = func(string) string { return answer }
		// Without a session token, as a user's credentials are.
		list := f.client().Sample(t.Context(), secret.AWS{AccessKeyID: "AKID", SecretAccessKey: secret.New("x")}, "", nil)
		if len(list) != 1 || list[0].Err == nil || string(list[0].Raw) != answer {
			t.Errorf("%s: %d answers, the first %q, %v", name, len(list), list[0].Raw, list[0].Err)
		}
	}
}

// What is kept of an answer is bounded, and a KMS that is tried again is heard once.
func TestSampleIsBounded(t *testing.T) {
	if _, err := sharedRecipient(); err != nil {
		t.Fatal(err)
	}
	f := newFakeKMS(t)
	for n, kept := range map[int]int{1000: 1040, maxHeard - 41: maxHeard, maxHeard: maxHeard, 60_000: maxHeard} {
		f.answer = func(string) string { return reply(200, strings.Repeat(" ", n)) }
		list := f.client().Sample(t.Context(), creds, "", nil)
		if len(list) != 1 || len(list[0].Raw) != kept {
			t.Errorf("%d bytes: %d are kept", n, len(list[0].Raw))
		}
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFakeKMS(t)
		tries := 0
		f.answer = func(string) string { tries++; return reply(503, fmt.Sprint("try ", tries)) }
		list := f.client(f.pipe).Sample(t.Context(), creds, "", nil)
		if len(list) != 1 || string(list[0].Raw) != reply(503, "try 3") {
			t.Errorf("%q", list[0].Raw)
		}
		// One that never answers.
		f.answer = func(string) string { time.Sleep(time.Hour); return "" }
		start := time.Now()
		list = f.client(f.pipe).Sample(t.Context(), creds, "", nil)
		if len(list) != 1 || list[0].Raw != nil || !errors.Is(list[0].Err, errConnect) || time.Since(start) != sampleTimeout {
			t.Errorf("%+v after %v", list, time.Since(start))
		}
		time.Sleep(2 * time.Hour)
	})
	list := f.client(func(c *Config) {
		c.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("connection refused") }
	}).Sample(t.Context(), creds, "", nil)
	if len(list) != 1 || list[0].Raw != nil || !errors.Is(list[0].Err, errConnect) {
		t.Errorf("%+v", list)
	}
	if list = f.client().Sample(t.Context(), secret.AWS{}, "", nil); len(list) != 1 || list[0].Raw != nil || !errors.Is(list[0].Err, errCredentials) {
		t.Errorf("without credentials: %+v", list)
	}
}

// While an enclave is sampled, its keys are opened as always, and nobody hears that.
func TestNobodyHearsOtherCalls(t *testing.T) {
	f := newFakeKMS(t)
	k := f.client()
	wrapped := goodWrapped(t, f)
	done := make(chan error)
	go func() {
		for range 20 {
			if _, err := k.Unwrap(t.Context(), creds, wrapped); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	var heard [][]byte
	for range 5 {
		for _, s := range k.Sample(t.Context(), creds, "test-1", []byte{1}) {
			heard = append(heard, s.Raw)
		}
	}
	if err := <-done; err != nil || k.ear != nil {
		t.Error(err)
	}
	for _, raw := range heard {
		if bytes.Count(raw, []byte("HTTP/1.1")) != 1 {
			t.Errorf("%q", raw)
		}
	}
}

// Only this boot opens what is in a sample, and what it finds there is a key of nothing.
func TestSamplesOpenNothing(t *testing.T) {
	f := newFakeKMS(t)
	k := f.client()
	wrapped := goodWrapped(t, f)
	list := k.Sample(t.Context(), creds, "test-1", bytes.Repeat([]byte{2}, 32))
	f.answer = func(string) string { return string(list[1].Raw) }
	// An answer that was recorded, in the place of the one for the validator's key.
	if _, err := k.Unwrap(t.Context(), creds, wrapped); !errors.Is(err, errWrapped) {
		t.Errorf("with the key of a sample: %v", err)
	}
	other, err := NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	k.recipient = func() (*Recipient, error) { return other, nil }
	if _, err := k.Unwrap(t.Context(), creds, wrapped); !errors.Is(err, errAnswer) || !strings.Contains(err.Error(), errEnvelope.Error()) {
		t.Errorf("in another boot: %v", err)
	}
}
