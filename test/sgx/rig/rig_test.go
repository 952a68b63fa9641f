package rig_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/sgx"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/sgxtest"
	"privyseal/internal/sgx/sigstruct"
	"privyseal/test/sgx/rig"
	"privyseal/test/tools"
)

// built is what all tests share: a machine with the commands, and the program.
var built struct {
	once    sync.Once
	err     error
	machine *rig.Machine
	program string
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sgx")
	if err != nil {
		panic(err)
	}
	built.program = filepath.Join(dir, rig.Program)
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// newMachine returns a machine of a test's own.
func newMachine(t *testing.T) *rig.Machine {
	t.Helper()
	if err := rig.Available(); err != nil {
		if os.Getenv("PRIVYSEAL_REQUIRE_SGX") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	built.once.Do(func() {
		if built.err = tools.BuildMeasured(context.Background(), built.program); built.err == nil {
			built.machine, built.err = rig.New(filepath.Dir(built.program))
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return another(t, built.machine)
}

func another(t *testing.T, m *rig.Machine) *rig.Machine {
	t.Helper()
	other, err := m.Other(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// newPolicy returns a policy for a chain, with a recovery key that nobody has.
func newPolicy(t *testing.T, seal string) []byte {
	t.Helper()
	recovery, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &policy.Policy{Chains: []string{"chain-1"}, SGX: policy.SGX{Seal: seal, RecoveryKey: "hpke-x25519:" + base64.StdEncoding.EncodeToString(recovery.PublicKey().Bytes())}}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// signed returns the folder of an enclave that the machine's key has signed, after changes
// of the manifest.
func signed(t *testing.T, m *rig.Machine, policy []byte, oldNew ...string) string {
	t.Helper()
	folder := t.TempDir()
	manifest := strings.NewReplacer(oldNew...).Replace(rig.Template)
	if len(oldNew) > 0 && manifest == rig.Template {
		t.Fatal("the manifest has nothing of ", oldNew)
	}
	if err := rig.Place(folder, built.program, policy, manifest); err != nil {
		t.Fatal(err)
	}
	if err := m.Sign(folder); err != nil {
		t.Fatal(err)
	}
	return folder
}

func launch(t *testing.T, m *rig.Machine, folder string, env ...string) *rig.Enclave {
	t.Helper()
	e, err := m.Launch(folder, env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	return e
}

func ask(t *testing.T, e *rig.Enclave, r hostlink.Request) hostlink.Reply {
	t.Helper()
	reply, err := e.Ask(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func create(t *testing.T, e *rig.Enclave) *hostlink.Created {
	t.Helper()
	made := ask(t, e, hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519"}}).Created
	if made == nil || len(made.Wrapped) == 0 || len(made.Backup) == 0 || len(made.Record) == 0 {
		t.Fatalf("made %+v", made)
	}
	return made
}

// bootWith is what an enclave says of a chain that it is to sign for with a wrapped key.
func bootWith(t *testing.T, e *rig.Enclave, wrapped []byte) hostlink.ChainStatus {
	t.Helper()
	reply := ask(t, e, hostlink.Request{Boot: &hostlink.Boot{LogLevel: "info", Chains: []hostlink.BootChain{{ID: "chain-1", Wrapped: wrapped}}}})
	if reply.Status == nil || len(reply.Status.Chains) != 1 {
		t.Fatalf("%+v", reply)
	}
	return reply.Status.Chains[0]
}

// verify checks that a document is a quote of the enclave of a folder, on a machine of m's
// Intel, and that it says what the claims are.
func verify(t *testing.T, m *rig.Machine, folder string, doc []byte) (sgx.Enclave, claims.Claims) {
	t.Helper()
	d, err := document.Decode(doc)
	if err != nil {
		t.Fatal(err)
	}
	quote, err := sgx.Parse(d.Quote)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := m.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	collateral, err := sgx.ParseCollateral(bundle)
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := sgx.ParseAnchor(m.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	v, err := quote.Verify(collateral, anchor, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(folder, rig.Name+".sig"))
	if err != nil {
		t.Fatal(err)
	}
	signature, err := sigstruct.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if e := v.Enclave; e == nil || e.MRENCLAVE != signature.MRENCLAVE || e.MRSIGNER != signature.MRSIGNER || e.SVN != signature.SVN || e.ProductID != signature.ProductID {
		t.Errorf("the quote says %+v, and the signature %+v", v.Enclave, signature)
	}
	if quote.ReportData() != document.ReportData(d.UserData, d.Nonce, d.PublicKey) {
		t.Error("the quote is over something else")
	}
	said, err := claims.Decode(d.UserData)
	if err != nil {
		t.Fatal(err)
	}
	return *v.Enclave, said
}

// The shipped program boots, makes a key whose document verifies, and opens it again after
// a restart.
func TestBoot(t *testing.T) {
	m := newMachine(t)
	for _, seal := range []string{policy.SealMRENCLAVE, policy.SealMRSIGNER} {
		t.Run(seal, func(t *testing.T) {
			folder := signed(t, m, newPolicy(t, seal))
			e := launch(t, m, folder)
			if hello := ask(t, e, hostlink.Request{Hello: &hostlink.Hello{}}).Status; hello == nil {
				t.Error("no hello")
			}
			made := create(t, e)
			if _, said := verify(t, m, folder, made.Document); said.Purpose != claims.PurposeCreate || said.Seal != seal || said.Key != claims.EncodeKey(made.Public) {
				t.Errorf("%+v", said)
			}
			e.Kill()
			if s := bootWith(t, launch(t, m, folder), made.Wrapped); strings.Contains(s.Problem+s.Cure, "seal") || strings.Contains(s.Problem+s.Cure, "recover") {
				t.Errorf("after a restart: %+v", s)
			}
		})
	}
}

// What seals: a key is opened again where the CPU gives the same seal key, and elsewhere the
// enclave says what to do.
func TestSeals(t *testing.T) {
	m := newMachine(t)
	p := newPolicy(t, policy.SealMRENCLAVE)
	bySigner := newPolicy(t, policy.SealMRSIGNER)
	for name, c := range map[string]struct {
		policy []byte
		change func(t *testing.T, m *rig.Machine) (*rig.Machine, []string)
		opens  bool
	}{
		"the same":                {p, func(_ *testing.T, m *rig.Machine) (*rig.Machine, []string) { return m, nil }, true},
		"another CPU":             {p, func(t *testing.T, m *rig.Machine) (*rig.Machine, []string) { return another(t, m), nil }, false},
		"another CPU, by signer":  {bySigner, func(t *testing.T, m *rig.Machine) (*rig.Machine, []string) { return another(t, m), nil }, false},
		"microcode":               {p, update, false},
		"microcode, by signer":    {bySigner, update, false},
		"another build":           {p, rebuilt, false},
		"another build by signer": {bySigner, rebuilt, true},
		"another SVN, by signer": {bySigner, func(_ *testing.T, m *rig.Machine) (*rig.Machine, []string) {
			return m, []string{"isvsvn = 1", "isvsvn = 2"}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := another(t, m)
			made := create(t, launch(t, m, signed(t, m, c.policy)))
			m, manifest := c.change(t, m)
			s := bootWith(t, launch(t, m, signed(t, m, c.policy, manifest...)), made.Wrapped)
			if told := strings.Contains(s.Cure, "privyseal sgx recover"); told == c.opens {
				t.Errorf("%+v", s)
			}
		})
	}
}

func update(t *testing.T, m *rig.Machine) (*rig.Machine, []string) {
	if err := m.UpdateMicrocode(); err != nil {
		t.Fatal(err)
	}
	return m, nil
}

// rebuilt is an enclave that measures otherwise.
func rebuilt(_ *testing.T, m *rig.Machine) (*rig.Machine, []string) {
	return m, []string{"max_threads = 32", "max_threads = 16"}
}

// A microcode update is seen in quotes, and they verify with the collateral of then.
func TestMicrocode(t *testing.T) {
	m := newMachine(t)
	folder := signed(t, m, newPolicy(t, policy.SealMRENCLAVE))
	update(t, m)
	verify(t, m, folder, create(t, launch(t, m, folder)).Document)
	m.Intel.Levels = []sgxtest.Level{{CPUSVN: m.Intel.CPUSVN, PCESVN: m.Intel.PCESVN, Status: "UpToDate"}}
	verify(t, m, folder, create(t, launch(t, m, folder)).Document)
}

// What is not as it was signed does not start, and nothing of the program runs.
func TestRefused(t *testing.T) {
	m := newMachine(t)
	edit := func(name, old, new string) func(*testing.T, *rig.Machine, string) {
		return func(t *testing.T, _ *rig.Machine, folder string) {
			data, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil || !bytes.Contains(data, []byte(old)) {
				t.Fatalf("no %q in %s: %v", old, name, err)
			}
			if err := os.WriteFile(filepath.Join(folder, name), bytes.Replace(data, []byte(old), []byte(new), 1), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	broken := func(change func(*rig.Machine)) func(*testing.T, *rig.Machine, string) {
		return func(t *testing.T, m *rig.Machine, _ string) {
			change(m)
			if err := m.Save(); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := newPolicy(t, policy.SealMRENCLAVE)
	for name, c := range map[string]struct {
		change   func(t *testing.T, m *rig.Machine, folder string)
		manifest []string
		says     string
		program  bool // whether it is the program that says so
	}{
		"a manifest edited after it was signed":  {edit("privyseal.manifest.sgx", `GOMAXPROCS = '2'`, `GOMAXPROCS = '3'`), nil, "Invalid measurement", false},
		"a manifest that runs something else":    {edit("privyseal.manifest.sgx", `argv = ['privyseal-sgx']`, `argv = ['privyseal-sgx', '--yes']`), nil, "Invalid measurement", false},
		"a program that was replaced":            {edit("privyseal-sgx", "\x7fELF", "\x7fELF\x02\x01\x01\x01"), nil, `Mounting "file:privyseal-sgx"`, false},
		"a policy that was replaced":             {edit("policy.json", "chain-1", "chain-2"), nil, `Mounting "file:policy.json"`, false},
		"a signature of something else":          {edit("privyseal.sig", "\xe1", "\xe2"), nil, "Invalid signature", false},
		"no signature":                           {func(_ *testing.T, _ *rig.Machine, folder string) { os.Remove(filepath.Join(folder, "privyseal.sig")) }, nil, "Cannot open sigstruct file privyseal.sig", false},
		"no driver":                              {broken(func(m *rig.Machine) { m.NoDriver = true }), nil, "Cannot open /dev/sgx_enclave", false},
		"no AESM":                                {broken(func(m *rig.Machine) { m.NoAESM = true }), nil, "Cannot connect to AESM service", false},
		"a policy that is not measured":          {nil, []string{`, "file:policy.json"]`, `]`}, "policy", true},
		"a program that is not measured":         {nil, []string{`["file:privyseal-sgx", `, `[`}, "Error during loading of /privyseal-sgx", false},
		"no policy":                              {nil, []string{`  { path = "/policy.json", uri = "file:policy.json" },`, ``}, "the manifest has no policy", true},
		"no attestation":                         {nil, []string{`remote_attestation = "dcap"`, `remote_attestation = "none"`}, "sgx.remote_attestation", true},
		"a variable of the host that is not his": {nil, []string{`PRIVYSEAL_HOST = { passthrough = true }`, ``}, "PRIVYSEAL_HOST", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := another(t, m)
			folder := signed(t, m, p, c.manifest...)
			if c.change != nil {
				c.change(t, m, folder)
			}
			e := launch(t, m, folder)
			if status := e.Wait(); status != 1 {
				t.Errorf("exit status %d", status)
			}
			text, other := e.Gramine.String(), e.Out.String()
			if c.program {
				text, other = other, ""
			}
			if !strings.Contains(text, c.says) || other != "" {
				t.Errorf("Gramine said:\n%s\nand the program:\n%s", e.Gramine.String(), e.Out.String())
			}
		})
	}
}

// Without AESM there is no quote, and no key; Gramine's own line says why. With it the
// enclave goes on.
func TestQuotesFail(t *testing.T) {
	m := newMachine(t)
	folder := signed(t, m, newPolicy(t, policy.SealMRENCLAVE))
	e := launch(t, m, folder)
	create(t, e)
	for _, broken := range []func(){func() { m.NoAESM = true }, func() { m.NoAESM, m.NoQuotes = false, true }} {
		broken()
		if err := m.Save(); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Ask(t.Context(), hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519"}}); err == nil || !strings.Contains(err.Error(), "the platform gives no quote") {
			t.Errorf("%v", err)
		}
	}
	m.NoQuotes = false
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	create(t, e)
	if !strings.Contains(e.Gramine.String(), "Failed to get quote (error code=-111)") {
		t.Error(e.Gramine.String())
	}
}

// The quotes of many who ask at once are each over what was asked.
func TestConcurrentQuotes(t *testing.T) {
	m := newMachine(t)
	folder := signed(t, m, newPolicy(t, policy.SealMRENCLAVE))
	e := launch(t, m, folder)
	var group sync.WaitGroup
	documents := make([][]byte, 8) // as many as may ask at once
	for i := range documents {
		group.Go(func() {
			reply, err := e.Ask(t.Context(), hostlink.Request{ImportKey: &hostlink.ImportKey{Nonce: bytes.Repeat([]byte{byte(i + 1)}, 32)}})
			if err != nil {
				t.Error(err)
				return
			}
			documents[i] = reply.Document
		})
	}
	group.Wait()
	for i, doc := range documents {
		if d, err := document.Decode(doc); err != nil || d.Nonce[0] != byte(i+1) {
			t.Fatalf("%v, %v", d, err)
		}
		verify(t, m, folder, doc)
	}
}

// The program ends by SIGTERM with status 0, by the end of its host, and with gramine-sgx.
func TestEnd(t *testing.T) {
	m := newMachine(t)
	folder := signed(t, m, newPolicy(t, policy.SealMRENCLAVE))
	hello := hostlink.Request{Hello: &hostlink.Hello{}}
	for name, end := range map[string]struct {
		how    func(*rig.Enclave) error
		status int
	}{
		"SIGTERM":     {func(e *rig.Enclave) error { return errors.Join(e.Signal(syscall.SIGTERM), e.Signal(syscall.SIGTERM)) }, 0},
		"its host":    {func(e *rig.Enclave) error { return e.Host.Close() }, 0},
		"gramine-sgx": {func(e *rig.Enclave) error { return e.Signal(syscall.SIGKILL) }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			e := launch(t, m, folder)
			ask(t, e, hello)
			if err := end.how(e); err != nil {
				t.Fatal(err)
			}
			if status := e.Wait(); status != end.status {
				t.Errorf("exit status %d\n%s%s", status, e.Gramine.String(), e.Out.String())
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := e.Ask(ctx, hello); err == nil {
				t.Error("it answers")
			}
		})
	}
}

// Of the environment, the arguments and the files of the host, the program has what the
// manifest names, and of the system calls those that Gramine has.
func TestNothingElse(t *testing.T) {
	m := newMachine(t)
	folder := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(folder, "probe"), "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	manifest := strings.NewReplacer(`"/privyseal-sgx"`, `"/probe"`, `["privyseal-sgx"]`, `["probe", "fixed"]`, `uri = "file:privyseal-sgx"`, `uri = "file:probe"`,
		`"file:privyseal-sgx", `, `"file:probe", `, `PRIVYSEAL_HOST`, `HOST_SOCKET`, `  { path = "/policy.json"`, `  { path = "/unmeasured", uri = "file:unmeasured" },
  { path = "/policy.json"`).Replace(rig.Template)
	if err := errors.Join(rig.Place(folder, built.program, newPolicy(t, policy.SealMRENCLAVE), manifest), os.WriteFile(filepath.Join(folder, "unmeasured"), []byte("x"), 0o666)); err != nil {
		t.Fatal(err)
	}
	if err := m.Sign(folder); err != nil {
		t.Fatal(err)
	}
	e := launch(t, m, folder, "HOST_SOCKET="+socket, "SECRET=of the host", "GOMAXPROCS=1")
	if status := e.Wait(); status != 7 {
		t.Errorf("exit status %d", status)
	}
	want, err := os.ReadFile("testdata/probe.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), strings.ReplaceAll(e.Out.String(), socket, "SOCKET")); diff != "" {
		t.Errorf("%s\n%s", diff, e.Gramine.String())
	}
}
