package manifest

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/looplink"
	"privyseal/internal/policy"
	"privyseal/internal/sgx/gramine"
)

// run runs a command.
func run(cmd *cobra.Command, args ...string) (out, notes string, err error) {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var o, n bytes.Buffer
	cmd.SetOut(&o)
	cmd.SetErr(&n)
	cmd.SetArgs(args)
	cmd.SetFlagErrorFunc(cli.FlagError)
	err = cmd.Execute()
	return o.String(), n.String(), err
}

// put writes a file and returns its path.
func put(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// recoveryKey is the public key of RFC 7748, 6.1, Alice's.
const recoveryKey = "hpke-x25519:hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="

// newPolicy returns a file that `privyseal sgx policy` printed.
func newPolicy(t *testing.T, args ...string) string {
	t.Helper()
	out, _, err := run(NewPolicy(), append(args, "--recovery-key", recoveryKey)...)
	if err != nil {
		t.Fatal(err)
	}
	return put(t, []byte(out))
}

// program returns an ELF file of one segment.
func program(t *testing.T, of elf.Type, machine elf.Machine, segment elf.ProgType) []byte {
	t.Helper()
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(of), Machine: uint16(machine), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	for _, part := range []any{h, elf.Prog64{Type: uint32(segment)}} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func good(t *testing.T) []byte { return program(t, elf.ET_EXEC, elf.EM_X86_64, elf.PT_LOAD) }

// The manifest is what it was, to the byte: each is measured.
func TestGolden(t *testing.T) {
	want, err := os.ReadFile("testdata/privyseal.manifest")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(identity{product: 7, svn: 3}.text())); diff != "" {
		t.Error(diff)
	}
}

// Gramine, the program and this repository mean the same by the manifest.
func TestManifestIsMeant(t *testing.T) {
	type mount struct{ Path, URI string }
	var is struct {
		LibOS struct {
			Entrypoint string `toml:"entrypoint"`
		} `toml:"libos"`
		Loader struct {
			Argv     []string       `toml:"argv"`
			LogLevel string         `toml:"log_level"`
			Env      map[string]any `toml:"env"`
		} `toml:"loader"`
		Sys map[string]bool `toml:"sys"`
		FS  struct {
			Root   map[string]string `toml:"root"`
			Mounts []mount           `toml:"mounts"`
		} `toml:"fs"`
		SGX struct {
			Debug       bool     `toml:"debug"`
			EDMM        bool     `toml:"edmm_enable"`
			Size        string   `toml:"enclave_size"`
			Threads     int      `toml:"max_threads"`
			ExInfo      bool     `toml:"use_exinfo"`
			Attestation string   `toml:"remote_attestation"`
			Product     int      `toml:"isvprodid"`
			SVN         int      `toml:"isvsvn"`
			Trusted     []string `toml:"trusted_files"`
		} `toml:"sgx"`
	}
	d := toml.NewDecoder(bytes.NewReader(identity{product: 65535, svn: 0}.text())).DisallowUnknownFields()
	if err := d.Decode(&is); err != nil {
		t.Fatal(err)
	}
	want := is
	want.LibOS.Entrypoint = "/privyseal-sgx"
	want.Loader.Argv, want.Loader.LogLevel = []string{"privyseal-sgx"}, "error"
	want.Loader.Env = map[string]any{"GOMAXPROCS": "2", "GOTRACEBACK": "none", looplink.Variable: map[string]any{"passthrough": true}}
	want.Sys = map[string]bool{"enable_sigterm_injection": true, "disallow_subprocesses": true}
	want.FS.Root = map[string]string{"type": "tmpfs"}
	want.FS.Mounts = []mount{{"/privyseal-sgx", "file:privyseal-sgx"}, {"/" + policy.File, "file:" + policy.File}}
	want.SGX.Debug, want.SGX.EDMM, want.SGX.Size, want.SGX.Threads, want.SGX.ExInfo = false, false, "2G", 32, true
	want.SGX.Attestation, want.SGX.Product, want.SGX.SVN = "dcap", 65535, 0
	want.SGX.Trusted = []string{"file:privyseal-sgx", "file:" + policy.File}
	if diff := cmp.Diff(want, is); diff != "" {
		t.Error(diff)
	}
	// Nothing of the host is where the program looks for the CPU.
	if strings.Contains(string(identity{}.text()), gramine.Dir) {
		t.Errorf("something is mounted at %s", gramine.Dir)
	}
}

// The folder has the three files and nothing else, always the same, and what comes next is
// printed as it is typed.
func TestFolder(t *testing.T) {
	from, prog := newPolicy(t), put(t, good(t))
	// The same policy, otherwise written, is measured alike.
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	squeezed := put(t, []byte(strings.NewReplacer("\n", "", "  ", "").Replace(string(text))))
	for _, p := range []string{from, squeezed} {
		dir := filepath.Join(t.TempDir(), "above it", "my enclave")
		out, notes, err := run(New(), "--policy", p, "--program", prog, "--out", dir, "--product", "7", "--svn", "3")
		if err != nil || out != "" {
			t.Fatal(out, err)
		}
		wantNotes := "next, sign it, with a key that is not on the validator's machine, as one of \"openssl genrsa -3 -out enclave-key.pem 3072\":\n" +
			"(cd '" + dir + "' && gramine-sgx-sign --manifest privyseal.manifest --output privyseal.manifest.sgx --key \"$OLDPWD/enclave-key.pem\" --date 0000-00-00)\n" +
			"privyseal sgx measure '" + dir + "/privyseal.sig'\n"
		if diff := cmp.Diff(wantNotes, notes); diff != "" {
			t.Error(diff)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 3 {
			t.Errorf("%v, %v", entries, err)
		}
		golden, err := os.ReadFile("testdata/privyseal.manifest")
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]struct {
			data []byte
			mode fs.FileMode
		}{"privyseal-sgx": {good(t), 0o755}, "policy.json": {text, 0o644}, "privyseal.manifest": {golden, 0o644}} {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(data, want.data) {
				t.Errorf("%s: %q, %v", name, data, err)
			}
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm()&0o700 != want.mode&0o700 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	}
}

// What is refused leaves nothing behind.
func TestFolderRefused(t *testing.T) {
	nitro, err := policy.ForAWS("arn:aws:kms:eu-central-1:111122223333:key/1", false)
	if err != nil {
		t.Fatal(err)
	}
	ofNitro, err := nitro.Encode()
	if err != nil {
		t.Fatal(err)
	}
	from, prog := newPolicy(t), put(t, good(t))
	for name, tt := range map[string]struct {
		policy, program string
		more            []string
		says            string
	}{
		"no policy":            {"", prog, nil, "--policy FILE is missing; make one with `privyseal sgx policy`"},
		"a policy of Nitro":    {put(t, ofNitro), prog, nil, "it is one for AWS Nitro Enclaves, and not for Intel SGX"},
		"no recovery key":      {put(t, []byte(`{"sgx_seal": "mrenclave"}`)), prog, nil, "recovery_key: it is missing: without a backup a key is lost with its CPU"},
		"no seal":              {put(t, []byte(`{"recovery_key": "`+recoveryKey+`"}`)), prog, nil, "sgx_seal: it is missing"},
		"no such policy":       {from + ".none", prog, nil, "--policy: open "},
		"no such program":      {from, prog + ".none", nil, "--program: open "},
		"no program at all":    {from, "", nil, "there is no "},
		"a script":             {from, put(t, []byte("#!/bin/sh\nexec privyseal-sgx\n")), nil, "f is not a program for Linux"},
		"a program for ARM":    {from, put(t, program(t, elf.ET_EXEC, elf.EM_AARCH64, elf.PT_LOAD)), nil, "f is for EM_AARCH64, and SGX is of x86-64 with 64 bits"},
		"a program of objects": {from, put(t, program(t, elf.ET_REL, elf.EM_X86_64, elf.PT_LOAD)), nil, "f is not a program, but ET_REL"},
		"not static":           {from, put(t, program(t, elf.ET_DYN, elf.EM_X86_64, elf.PT_INTERP)), nil, "f is not static, and the enclave has no libraries"},
		"a product too large":  {from, prog, []string{"--product", "65536"}, "--product"},
		"a negative SVN":       {from, prog, []string{"--svn", "-1"}, "--svn"},
		"no number":            {from, prog, []string{"--svn", "one"}, "--svn"},
	} {
		dir := filepath.Join(t.TempDir(), "sgx")
		args := append([]string{"--out", dir}, tt.more...)
		if tt.policy != "" {
			args = append(args, "--policy", tt.policy)
		}
		if tt.program != "" {
			args = append(args, "--program", tt.program)
		}
		if _, notes, err := run(New(), args...); err == nil || !strings.Contains(err.Error(), tt.says) || notes != "" {
			t.Errorf("%s: %v, not %q; %s", name, err, tt.says, notes)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it made the folder: %v", name, err)
		}
	}
	if _, _, err := run(New(), "--policy", from, "--program", prog); err == nil || !strings.Contains(err.Error(), "--out FOLDER is missing") {
		t.Errorf("no folder: %v", err)
	}
}

// Each file that is in the way is named, and stays as it is, and so does all else.
func TestNothingIsOverwritten(t *testing.T) {
	from, prog := newPolicy(t), put(t, good(t))
	for _, name := range []string{"privyseal-sgx", "policy.json", "privyseal.manifest", "privyseal.manifest.sgx", "privyseal.sig"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := run(New(), "--policy", from, "--program", prog, "--out", dir)
		if _, usage := errors.AsType[cli.UsageError](err); !usage || !strings.HasPrefix(err.Error(), filepath.Join(dir, name)+" is there already, and nothing in the folder of an enclave is overwritten") {
			t.Errorf("%s: %v", name, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, name)); string(data) != "mine" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

// A policy for an enclave that must not be one of production, or whose keys the signer has,
// says so each time.
func TestWarnings(t *testing.T) {
	root := put(t, []byte(policy.AWSRoots()))
	table := []string{"--dynamodb-table", "marks", "--dynamodb-table-id", "0-1", "--dynamodb-region", "eu-central-1"}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, ""},
		{table, ""},
		{[]string{"--attestation-root", root}, "names an attestation root that is not Intel's"},
		{append(table[:6:6], "--dynamodb-endpoint", "dynamodb.evil.example"), "trusts a DynamoDB that is not known to be AWS's"},
		{[]string{"--seal", "mrsigner"}, "sealed to the signer: whoever has the key that signs the enclave"},
	} {
		from := newPolicy(t, tt.args...)
		_, first, err := run(NewPolicy(), append(tt.args, "--recovery-key", recoveryKey)...)
		if err != nil {
			t.Fatal(err)
		}
		_, second, err := run(New(), "--policy", from, "--program", put(t, good(t)), "--out", filepath.Join(t.TempDir(), "sgx"))
		if err != nil {
			t.Fatal(err)
		}
		for _, notes := range []string{first, second} {
			if strings.Count(notes, "WARNING") != min(1, len(tt.says)) || !strings.Contains(notes, tt.says) {
				t.Errorf("%q: %s", tt.args, notes)
			}
		}
	}
}

// pemOf returns a key in PEM.
func pemOf(t *testing.T, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// The public half of a recovery key goes into the policy, however it is given, and the private
// one never.
func TestRecoveryKey(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&small.PublicKey)
	public := pemOf(t, "PUBLIC KEY", der, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(small)
	private := pemOf(t, "PRIVATE KEY", pkcs8, err)
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	xPrivate := "hpke-x25519-private:" + base64.StdEncoding.EncodeToString(x.Bytes())
	const never = "is the private half of a recovery key: whoever has that and the backups has the validator's keys\ntake it away from this machine"
	for name, tt := range map[string]struct{ value, want, says string }{
		"as it was printed":        {recoveryKey, recoveryKey, ""},
		"a file of what was":       {put(t, []byte(recoveryKey+"\n")), recoveryKey, ""},
		"of an HSM":                {put(t, []byte(public)), public, ""},
		"of an HSM, by DOS":        {put(t, []byte("\n"+strings.ReplaceAll(public, "\n", "\r\n"))), public, ""},
		"of an HSM, as text":       {public, public, ""},
		"none":                     {"", "", "--recovery-key KEY is missing"},
		"no such file":             {"recovery.pub", "", "--recovery-key: open recovery.pub"},
		"cut off":                  {recoveryKey[:40], "", "--recovery-key: "},
		"something else":           {put(t, []byte("ssh-ed25519 AAAA")), "", "is neither hpke-x25519:BASE64 nor an RSA public key in PEM"},
		"too large":                {put(t, make([]byte, 16<<10+1)), "", "more than 16384 bytes"},
		"the private half":         {put(t, []byte("privyseal recovery key 1\n"+xPrivate+"\n")), "", never},
		"the private half as text": {xPrivate, "", never},
		"of RSA":                   {put(t, []byte(private)), "", never},
		"of RSA, behind the other": {put(t, []byte(public+private)), "", never},
		"of RSA, the older form":   {put(t, []byte(pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small), nil))), "", never},
		"of RSA, with a password":  {put(t, []byte(pemOf(t, "ENCRYPTED PRIVATE KEY", []byte{1}, nil))), "", never},
		"of RSA as text":           {private, "", never},
	} {
		out, notes, err := run(NewPolicy(), "--recovery-key", tt.value)
		if tt.says != "" {
			if err == nil || !strings.Contains(err.Error(), tt.says) || out != "" {
				t.Errorf("%s: %v, not %q; %s", name, err, tt.says, out)
			}
			continue
		}
		p, parseErr := policy.Parse([]byte(out), policy.OfSGX)
		if err != nil || parseErr != nil || p.RecoveryKey != tt.want || p.Seal != policy.SealMRENCLAVE {
			t.Errorf("%s: %v, %v, %s", name, err, parseErr, out)
			continue
		}
		if notes != "backups will name the recovery key "+p.Recipient().ID()+"\n" {
			t.Errorf("%s: %s", name, notes)
		}
	}
}

// What may be signed and where the marks are is in the policy; a flag that is missing or wrong
// is named.
func TestPolicy(t *testing.T) {
	ca := put(t, []byte(policy.AWSRoots()))
	table := []string{"--dynamodb-table", "marks", "--dynamodb-table-id", "0-1", "--dynamodb-region", "us-gov-west-1"}
	const public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	sealed := policy.SGX{Seal: policy.SealMRENCLAVE, RecoveryKey: recoveryKey}
	inTable := policy.DynamoDB{Table: "marks", TableID: "0-1", TableRegion: "us-gov-west-1", TableEndpoint: "dynamodb.us-gov-west-1.amazonaws.com:443"}
	etcd := policy.Etcd{CA: policy.AWSRoots(), ServerNames: []string{"10.0.0.1"}, ClusterID: "00000000000000a1", Prefix: "/privyseal"}
	block, _ := pem.Decode([]byte(policy.AWSRoots()))
	one := string(pem.EncodeToMemory(block))
	for _, tt := range []struct {
		args []string
		want policy.Policy
		says string
	}{
		{nil, policy.Policy{SGX: sealed}, ""},
		{[]string{"--seal", "mrsigner"}, policy.Policy{SGX: policy.SGX{Seal: policy.SealMRSIGNER, RecoveryKey: recoveryKey}}, ""},
		{[]string{"--seal", "both"}, policy.Policy{}, "--seal: it is neither \"mrenclave\" nor \"mrsigner\""},
		{[]string{"--chain", "a-1", "--public-key", public, "--max-height", "9", "--state-floor", "a-1=5", "--allow-sign-bytes", "--allow-raw-bytes"},
			policy.Policy{SGX: sealed, Chains: []string{"a-1"}, PublicKeys: []string{public}, MaxHeight: 9, StateFloor: map[string]int64{"a-1": 5}, AllowSignBytes: true, AllowRawBytes: true}, ""},
		{[]string{"--chain", "a 1"}, policy.Policy{}, "--chain: \"a 1\" is not a chain id"},
		{[]string{"--etcd-ca", ca, "--etcd-server-name", "10.0.0.1", "--etcd-cluster-id", "a1"}, policy.Policy{SGX: sealed, Etcd: etcd}, ""},
		{[]string{"--etcd-cluster-id", "a1"}, policy.Policy{}, "--etcd-ca FILE is missing"},
		{table, policy.Policy{SGX: sealed, TLSRoots: policy.AWSRoots(), DynamoDB: inTable}, ""},
		{append(table[:6:6], "--tls-roots", put(t, []byte(one))), policy.Policy{SGX: sealed, TLSRoots: one, DynamoDB: inTable}, ""},
		{table[:4], policy.Policy{}, "--dynamodb-region REGION is missing"},
		{[]string{"--tls-roots", ca}, policy.Policy{}, "--tls-roots: without a dynamodb_table no certificate is checked against them"},
		{[]string{"--tls-roots", ca + ".none"}, policy.Policy{}, "--tls-roots: open "},
		{[]string{"--attestation-root", ca}, policy.Policy{SGX: sealed, AttestationRoot: policy.AWSRoots()}, ""},
	} {
		out, _, err := run(NewPolicy(), append(tt.args, "--recovery-key", recoveryKey)...)
		if tt.says != "" {
			_, usage := errors.AsType[cli.UsageError](err)
			if err == nil || !strings.Contains(err.Error(), tt.says) || !usage && !errors.Is(err, fs.ErrNotExist) || out != "" {
				t.Errorf("%q: %v, not %q", tt.args, err, tt.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
			continue
		}
		got, err := policy.Parse([]byte(out), policy.OfSGX)
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
			continue
		}
		if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Errorf("%q: %s", tt.args, diff)
		}
	}
}
