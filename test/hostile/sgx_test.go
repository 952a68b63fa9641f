package hostile

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/internal/sgx"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/sgxtest"
	"privyseal/internal/vsock"
	sgxrig "privyseal/test/sgx/rig"
	"privyseal/test/tools"
)

// inSGX says that enclaves are the shipped program of SGX, under the stand-in for Gramine of
// test/sgx/rig.
var inSGX = os.Getenv("PRIVYSEAL_HOSTILE") == "sgx"

// mainInSGX runs the tests with a machine.
func mainInSGX(m *testing.M) int {
	if err := sgxrig.Available(); err != nil {
		if os.Getenv("PRIVYSEAL_REQUIRE_SGX") == "1" {
			log.Fatal(err)
		}
		fmt.Println("skipped:", err)
		return 0
	}
	dir, err := os.MkdirTemp("", "sgx")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := setUpSGX(dir); err != nil {
		log.Print(err)
		return 1
	}
	return etcdtest.Main(m)
}

// ofNitro skips a story of what only Nitro Enclaves have: KMS, or a kernel of their own.
func ofNitro(t *testing.T) {
	t.Helper()
	if inSGX {
		t.Skip("there is no KMS for an enclave of SGX")
	}
}

// restartCommand is what ends an enclave, as it says so itself.
func restartCommand() string {
	if inSGX {
		return "`privyseal start`"
	}
	return "`privyseal nitro stop`"
}

// sgxMachine is one machine for all worlds, and enclaves is a folder for their files.
var sgxMachine struct {
	*sgxrig.Machine
	program, enclaves string
	signer            [32]byte // MRSIGNER

	mu    sync.Mutex
	built map[[32]byte]string // folders of enclaves, by the hash of their policy
}

// setUpSGX makes the machine.
func setUpSGX(dir string) (err error) {
	m := &sgxMachine
	m.built, m.enclaves, m.program = map[[32]byte]string{}, dir, filepath.Join(dir, sgxrig.Program)
	if err := tools.BuildMeasured(context.Background(), m.program); err != nil {
		return err
	}
	if m.Machine, err = sgxrig.New(filepath.Join(dir, "machine")); err != nil {
		return err
	}
	key, err := os.ReadFile(m.SignerKey())
	if err != nil {
		return err
	}
	signer, err := sgxtest.ParseSigner(key)
	if err == nil {
		m.signer = signer.MRSIGNER()
	}
	return err
}

// sgxPolicy is what a world's enclaves of SGX begin with. Keys are sealed to the signer: a
// world that changes the policy goes on with them, as one whose KMS lets both images in.
func (w *world) sgxPolicy() *policy.Policy {
	recovery, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return &policy.Policy{
		AttestationRoot: string(sgxMachine.RootPEM()),
		SGX:             policy.SGX{Seal: policy.SealMRSIGNER, RecoveryKey: "hpke-x25519:" + base64.StdEncoding.EncodeToString(recovery.PublicKey().Bytes())},
	}
}

// folder returns that of a signed enclave with the world's policy.
func (w *world) folder() string {
	w.t.Helper()
	encoded, err := w.policy.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	m := &sgxMachine
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := sha256.Sum256(encoded)
	if m.built[sum] == "" {
		folder := filepath.Join(m.enclaves, fmt.Sprintf("%x", sum[:8]))
		if err := sgxrig.Place(folder, m.program, encoded, ""); err != nil {
			w.t.Fatal(err)
		}
		if err := m.Sign(folder); err != nil {
			w.t.Fatal(err)
		}
		m.built[sum] = folder
	}
	return m.built[sum]
}

// gramine is an enclave that gramine-sgx runs.
type gramine struct {
	*sgxrig.Enclave
	w *world
}

func (w *world) bootInSGX(e *running) {
	w.t.Helper()
	folder := w.folder()
	manifest, err := os.ReadFile(filepath.Join(folder, sgxrig.Name+".manifest.sgx"))
	if err != nil {
		w.t.Fatal(err)
	}
	measured := sgxrig.Measure(manifest)
	e.pcr0 = measured[:]
	enclave, err := sgxMachine.Launch(folder)
	if err != nil {
		w.t.Fatal(err)
	}
	e.guest = &gramine{enclave, w}
	for _, port := range []uint32{hostlink.StatePort, hostlink.NodePort, hostlink.KMSPort, hostlink.LogPort, hostlink.EtcdPort} {
		l, err := enclave.Host.Listen(port)
		if err != nil {
			w.t.Fatal(err)
		}
		go e.takeAll(tapped{l, w}, port)
	}
}

// tapped is a listener whose connections keep what the enclave has written to them.
type tapped struct {
	net.Listener
	w *world
}

func (l tapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &left{c.(vsock.Conn), l.w.stream()}, nil
}

// left keeps what comes from the enclave.
type left struct {
	vsock.Conn
	stream *stream
}

// SetReadBuffer is that of the connection.
func (l *left) SetReadBuffer(bytes int) error {
	return l.Conn.(interface{ SetReadBuffer(int) error }).SetReadBuffer(bytes)
}

func (l *left) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.stream.Write(p[:n])
	return n, err
}

func (g *gramine) call() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		c, err := g.Host.Dial(ctx, hostlink.ControlPort)
		if err == nil {
			return &left{c, g.w.stream()}, nil
		}
		if ctx.Err() != nil || g.HasEnded() {
			return nil, err
		}
	}
}

func (g *gramine) end() error {
	if g.HasEnded() {
		return fmt.Errorf("exit status %d\n%s%s", g.Wait(), g.Gramine.String(), g.Out.String())
	}
	g.Kill()
	g.w.stream().Write([]byte(g.Out.String()))
	return nil
}

// unseal opens what an enclave of this machine has sealed.
func (w *world) unseal(sealed []byte) ([]byte, error) {
	s, err := sgxseal.New(sgxseal.Config{Policy: w.policy, Key: func(seal string) ([]byte, error) {
		return sgxMachine.SealKey(seal, sgxtest.Enclave{MRSIGNER: sgxMachine.signer, ProductID: 1, SVN: 1}), nil
	}})
	if err != nil {
		return nil, err
	}
	k, err := s.Unwrap(w.t.Context(), secret.AWS{}, sealed)
	return k.Secret.Reveal(), err
}

// sealedElsewhere returns a key that an enclave with this policy has sealed on another CPU.
func (w *world) sealedElsewhere(chain string) []byte {
	w.t.Helper()
	m, err := sgxMachine.Other(w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := m.Launch(w.folder())
	if err != nil {
		w.t.Fatal(err)
	}
	defer e.Kill()
	reply, err := e.Ask(w.t.Context(), hostlink.Request{Create: &hostlink.Create{ChainID: chain, KeyType: "ed25519"}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.keep([]byte("the search of this world has no key that it could open"))
	return reply.Created.Wrapped
}

// readQuote verifies a document of SGX, as anybody elsewhere does, and returns its claims.
func (e *running) readQuote(raw, nonce []byte) ([]byte, error) {
	d, err := document.Decode(raw)
	if err != nil {
		return nil, err
	}
	quote, err := sgx.Parse(d.Quote)
	if err != nil {
		return nil, err
	}
	bundle, err := sgxMachine.Collateral()
	if err != nil {
		return nil, err
	}
	collateral, err := sgx.ParseCollateral(bundle)
	if err != nil {
		return nil, err
	}
	anchor, err := sgx.ParseAnchor(sgxMachine.RootPEM())
	if err != nil {
		return nil, err
	}
	v, err := quote.Verify(collateral, anchor, time.Now())
	if err != nil {
		return nil, err
	}
	if v.Enclave == nil || v.Enclave.MRENCLAVE != [32]byte(e.pcr0) || string(d.Nonce) != string(nonce) || quote.ReportData() != document.ReportData(d.UserData, d.Nonce, d.PublicKey) || d.PublicKey != nil {
		return nil, fmt.Errorf("the quote is of something else: %+v", v.Enclave)
	}
	return d.UserData, nil
}
