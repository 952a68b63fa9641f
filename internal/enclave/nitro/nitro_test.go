package nitro

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
)

// module keeps what it was asked to sign.
type module struct{ userData [][]byte }

func (m *module) Attest(userData, nonce, publicKey []byte) ([]byte, error) {
	m.userData = append(m.userData, userData)
	return []byte("document"), nil
}

const keyARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

// boot runs an enclave whose policy allows chain-1, with no KMS to be reached, and
// returns what asks it.
func boot(t *testing.T, m *module) func(hostlink.Request) (hostlink.Reply, error) {
	p, err := policy.ForAWS(keyARN, false)
	if err != nil {
		t.Fatal(err)
	}
	p.Chains = []string{"chain-1"}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Boot{
			Version: "test", Policy: data, Module: m,
			Listen: func(uint32) (net.Listener, error) { return l, nil },
			Dial:   func(context.Context, uint32) (net.Conn, error) { return nil, errors.New("nobody is there") },
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the enclave ended: %v", err)
		}
	})
	return func(req hostlink.Request) (hostlink.Reply, error) {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return hostlink.Call(conn, req)
	}
}

// A document for KMS says that it is one, and for which key: nobody else takes it.
func TestDocumentForKMS(t *testing.T) {
	m := &module{}
	ask := boot(t, m)
	_, err := ask(hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519",
		Credentials: hostlink.Credentials{AccessKeyID: "AKID", SecretAccessKey: secret.New("x")}}})
	if err == nil || !strings.Contains(err.Error(), "KMS cannot be reached") {
		t.Errorf("a key without KMS: %v", err)
	}
	if len(m.userData) != 1 {
		t.Fatalf("%d documents", len(m.userData))
	}
	if c, err := claims.Decode(m.userData[0]); err != nil || c != (claims.Claims{Version: 1, Purpose: claims.PurposeKMS, KMSKey: keyARN}) {
		t.Errorf("%+v, %v", c, err)
	}
}

// The host reads what the client of the policy's key hears of KMS, and why that is nothing.
func TestSample(t *testing.T) {
	m := &module{}
	ask := boot(t, m)
	creds := hostlink.Credentials{AccessKeyID: "AKID", SecretAccessKey: secret.New("x")}
	for want, c := range map[string]hostlink.Credentials{"KMS cannot be reached": creds, "KMS does not accept the AWS credentials": {}} {
		reply, err := ask(hostlink.Request{Sample: &hostlink.Sample{ChainID: "chain-1", Credentials: c}})
		if a := reply.Answers; err != nil || len(a) != 1 || a[0].Call != "GenerateDataKey" || a[0].Raw != nil || !strings.Contains(a[0].Error, want) {
			t.Errorf("%+v, %v", a, err)
		}
	}
	if len(m.userData) != 1 {
		t.Fatalf("%d documents", len(m.userData))
	}
	if c, err := claims.Decode(m.userData[0]); err != nil || c.Purpose != claims.PurposeKMS {
		t.Errorf("a sample's document: %+v, %v", c, err)
	}
}

// What an operator is asked to do is what Nitro's commands do.
func TestCures(t *testing.T) {
	_, err := boot(t, &module{})(hostlink.Request{Create: &hostlink.Create{ChainID: "chain-2", KeyType: "ed25519"}})
	if err == nil || !strings.Contains(err.Error(), "with `privyseal nitro image-policy` and `privyseal nitro build`, and let it in") {
		t.Errorf("a chain that the policy does not allow: %v", err)
	}
}

func TestBadPolicy(t *testing.T) {
	for _, data := range []string{"", "{}", `{"kms_key": "alias/x"}`} {
		if err := Run(t.Context(), Boot{Version: "test", Policy: []byte(data), Module: &module{}}); err == nil || !strings.Contains(err.Error(), "policy") {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// What is wrong with the machine is in the host's log.
func TestWarningsReachTheHost(t *testing.T) {
	p, err := policy.ForAWS(keyARN, false)
	if err != nil {
		t.Fatal(err)
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inside, outside := net.Pipe()
	lines := make(chan hostlink.Line, 64)
	go hostlink.ReadLines(outside, func(l hostlink.Line) { lines <- l })
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	go func() {
		done <- Run(ctx, Boot{
			Version: "test", Policy: data, Module: &module{}, Warnings: []string{"the clock is wrong", "the moon is full"},
			Listen: func(uint32) (net.Listener, error) { return l, nil },
			Dial: func(_ context.Context, port uint32) (net.Conn, error) {
				if port != hostlink.LogPort {
					return nil, errors.New("nobody is there")
				}
				return inside, nil
			},
		})
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// What is refused is logged after the start.
	hostlink.Call(conn, hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519"}})
	for _, want := range []string{"enclave started", "the clock is wrong", "the moon is full", "refused a request of the host"} {
		if l := <-lines; l.Log == nil || l.Log.Message != want || (l.Log.Level == slog.LevelWarn) != (want != "enclave started") {
			t.Fatalf("the host reads %+v, want %q", l.Log, want)
		}
	}
}
