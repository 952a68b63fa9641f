package sgx

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/looplink"
	"privyseal/internal/policy"
	"privyseal/internal/sgx"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/gramine"
	"privyseal/internal/sgx/sgxtest"
)

// cpu is one whose seal keys are all its own, and whose quotes an Intel for tests signs.
type cpu struct {
	intel     *sgxtest.Intel
	mrenclave [32]byte
	seal      byte
	noQuote   error
}

func (c *cpu) SealKey(seal string) ([]byte, error) {
	key := []byte("0123456789abcdef")
	key[0], key[1] = c.seal, seal[2]
	return key, nil
}

func (c *cpu) Quote(data [64]byte) ([]byte, error) {
	if c.noQuote != nil {
		return nil, c.noQuote
	}
	return c.intel.Quote(sgxtest.Enclave{MRENCLAVE: c.mrenclave, ReportData: data})
}

func newCPU(t *testing.T) *cpu {
	t.Helper()
	intel, err := sgxtest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &cpu{intel: intel, mrenclave: [32]byte{0xe1}, seal: 1}
}

func newPolicy(t *testing.T) []byte {
	t.Helper()
	recovery, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &policy.Policy{Chains: []string{"chain-1"}, SGX: policy.SGX{Seal: policy.SealMRENCLAVE, RecoveryKey: "hpke-x25519:" + base64.StdEncoding.EncodeToString(recovery.PublicKey().Bytes())}}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// boot runs an enclave on a CPU, and returns what asks it, over TCP on loopback.
func boot(t *testing.T, c *cpu, policy []byte) func(hostlink.Request) (hostlink.Reply, error) {
	t.Helper()
	host, err := looplink.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	link, err := looplink.NewEnclave(strings.TrimPrefix(host.Environment(), looplink.Variable+"="))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Boot{Version: "test", Policy: policy, Platform: c, Listen: link.Listen, Dial: link.Dial})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the enclave ended: %v", err)
		}
		host.Close()
	})
	return func(req hostlink.Request) (hostlink.Reply, error) {
		conn, err := host.Dial(t.Context(), hostlink.ControlPort)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return hostlink.Call(conn, req)
	}
}

// The document of a new key is a quote of this enclave over all that is said of the key, and
// names who can open its backup.
func TestCreate(t *testing.T) {
	c := newCPU(t)
	ask := boot(t, c, newPolicy(t))
	reply, err := ask(hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519"}})
	if err != nil {
		t.Fatal(err)
	}
	made := reply.Created
	if made == nil || len(made.Wrapped) == 0 || len(made.Backup) == 0 || len(made.Record) == 0 {
		t.Fatalf("made %+v", made)
	}
	doc, err := document.Decode(made.Document)
	if err != nil {
		t.Fatal(err)
	}
	quote, err := sgx.Parse(doc.Quote)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := c.intel.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	collateral, err := sgx.ParseCollateral(bundle)
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := sgx.ParseAnchor(c.intel.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	v, err := quote.Verify(collateral, anchor, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if v.Enclave == nil || v.Enclave.MRENCLAVE != c.mrenclave || quote.ReportData() != document.ReportData(doc.UserData, doc.Nonce, doc.PublicKey) {
		t.Errorf("%+v", v.Enclave)
	}
	said, err := claims.Decode(doc.UserData)
	if err != nil || said.Purpose != claims.PurposeCreate || said.Key != claims.EncodeKey(made.Public) || said.Origin != claims.Generated || said.Recipient == "" || said.Seal != policy.SealMRENCLAVE {
		t.Errorf("%+v, %v", said, err)
	}
}

// The document of a wrap key is a quote over the nonce and the key as well.
func TestCloudWrap(t *testing.T) {
	nonce := []byte("of the one who asks")
	reply, err := boot(t, newCPU(t), newPolicy(t))(hostlink.Request{CloudWrap: &hostlink.CloudWrap{Nonce: nonce}})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := document.Decode(reply.WrapKey.Document)
	if err != nil {
		t.Fatal(err)
	}
	quote, err := sgx.Parse(doc.Quote)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(doc.Nonce, nonce) || len(doc.PublicKey) == 0 || quote.ReportData() != document.ReportData(doc.UserData, nonce, doc.PublicKey) {
		t.Errorf("%+v", doc)
	}
}

// A key that another CPU has sealed is not opened, and the message leads to its backup.
func TestAnotherCPU(t *testing.T) {
	c, p := newCPU(t), newPolicy(t)
	reply, err := boot(t, c, p)(hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519"}})
	if err != nil {
		t.Fatal(err)
	}
	request := hostlink.Request{Boot: &hostlink.Boot{LogLevel: "info", Chains: []hostlink.BootChain{{ID: "chain-1", Wrapped: reply.Created.Wrapped}}}}
	other := *c
	other.seal = 2
	for name, on := range map[string]*cpu{"": c, "recover": &other} {
		reply, err := boot(t, on, p)(request)
		if err != nil || reply.Status == nil || len(reply.Status.Chains) != 1 {
			t.Fatalf("%+v, %v", reply, err)
		}
		if sum := sha256.Sum256(p); !bytes.Equal(reply.Status.Policy, sum[:]) {
			t.Errorf("the policy of %x", reply.Status.Policy)
		}
		if s := reply.Status.Chains[0]; name == "recover" && !strings.Contains(s.Cure, "privyseal sgx recover") || name == "" && strings.Contains(s.Problem, "seal") {
			t.Errorf("%+v", s)
		}
	}
}

// What an operator is asked to do is what SGX's commands do: the enclave ends with its host.
func TestCures(t *testing.T) {
	_, err := boot(t, newCPU(t), newPolicy(t))(hostlink.Request{Create: &hostlink.Create{ChainID: "chain-2", KeyType: "ed25519"}})
	if err == nil || !strings.Contains(err.Error(), "with `privyseal sgx manifest` and `gramine-sgx-sign`; ") {
		t.Errorf("a chain that the policy does not allow: %v", err)
	}
	if !strings.Contains(cures.Restart, "`privyseal start`") || !strings.Contains(cures.LostState, "doc/sgx.md") {
		t.Errorf("%+v", cures)
	}
}

// What keeps an enclave from being of use ends it, with one reason.
func TestRefused(t *testing.T) {
	c := newCPU(t)
	nitro, err := policy.ForAWS("arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", false)
	if err != nil {
		t.Fatal(err)
	}
	text, err := nitro.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{nil, []byte("{}"), text} {
		if err := Run(t.Context(), Boot{Version: "test", Policy: data, Platform: c}); err == nil || !strings.Contains(err.Error(), "policy") {
			t.Errorf("%.30q: %v", data, err)
		}
	}
	// Without a quote there is no key.
	c.noQuote = errors.New("no AESM")
	if reply, err := boot(t, c, newPolicy(t))(hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519"}}); err == nil || reply.Created != nil || !strings.Contains(err.Error(), "no AESM") {
		t.Errorf("%+v, %v", reply, err)
	}
}

// manifest is the enclave's file system, with a quote that is the report data.
func manifest(t *testing.T, policyFile []byte) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, gramine.Dir)
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(dir, "attestation_type"): "dcap", filepath.Join(dir, "keys", "_sgx_mrenclave"): "0123456789abcdef",
		filepath.Join(dir, "user_report_data"): "", filepath.Join(root, policy.File): string(policyFile),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("user_report_data", filepath.Join(dir, "quote")); err != nil {
		t.Fatal(err)
	}
	return root
}

// The program finds what the manifest gives it, serves the host that launched it, and ends
// when that one does.
func TestStart(t *testing.T) {
	host, err := looplink.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	name, value, _ := strings.Cut(host.Environment(), "=")
	t.Setenv(name, value)
	root := manifest(t, newPolicy(t))
	done := make(chan error, 1)
	go func() { done <- start(t.Context(), "test", root) }()
	conn, err := host.Dial(t.Context(), hostlink.ControlPort)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reply, err := hostlink.Call(conn, hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519"}})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := document.Decode(reply.Created.Document)
	if data := document.ReportData(doc.UserData, doc.Nonce, doc.PublicKey); err != nil || !bytes.Equal(doc.Quote, data[:]) {
		t.Errorf("a quote of %x, %v", doc.Quote, err)
	}
	host.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on without a host")
	}
}

// A manifest or a launch that lacks something is an end with one reason.
func TestStartRefuses(t *testing.T) {
	host, err := looplink.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	name, value, _ := strings.Cut(host.Environment(), "=")
	host.Close()
	p := newPolicy(t)
	for says, c := range map[string]struct{ variable, without string }{
		"this is no SGX enclave":                      {value, filepath.Join(gramine.Dir, "attestation_type")},
		"the manifest has no policy":                  {value, policy.File},
		"the host does not say where it listens":      {"", "none"},
		"the host that launched this enclave is gone": {value, "none"},
	} {
		root := manifest(t, p)
		os.Remove(filepath.Join(root, c.without))
		t.Setenv(name, c.variable)
		if err := start(t.Context(), "test", root); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
