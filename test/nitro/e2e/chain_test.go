package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"privyseal/internal/hostlink"
	"privyseal/internal/vsock"
	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/nitro/e2e/world"
	"privyseal/test/nitro/rig"
)

// blocks is how many each chain makes, twice.
const blocks = 100

// Two chains, one over a unix socket and one over tcp, are signed from inside of
// one enclave; its host process is restarted, then the enclave is killed.
func TestChain(t *testing.T) {
	ctx := story.Within(t, 2*time.Minute)
	began := time.Now()
	step := func(what string) { t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what) }
	w := newWorld(t)
	signImages(t, w)
	im := testImage(ctx, t, w, "--chain", "nitro-unix", "--chain", "nitro-tcp")
	step("image built")
	s, chains, err := w.InitChains(ctx, w.InitFlags(im), "unix", "tcp")
	need(t, err)
	pin(ctx, t, w, im, s, chains)
	verifiedAtInit(ctx, t, w, im, s, chains[0])

	step("keys made")
	story.StartSigner(t, s)
	for _, c := range chains {
		story.StartNode(t, c.Node, c.Addr)
	}
	for _, c := range chains {
		check(t, c.Node.WaitHeight(ctx, blocks+1))
	}
	step("100 blocks")
	old := running(t, w)

	// Its enclave outlives the host process, and the next one finds it.
	check(t, s.Stop(time.Minute))
	if e := running(t, w); e.EnclaveID != old.EnclaveID {
		t.Errorf("the enclave %s ended with its host; %s runs", old.EnclaveID, e.EnclaveID)
	}
	check(t, s.Start())
	check(t, enclave.GoOn(ctx, chains, 20))
	step("20 more after the restart of the host process")

	check(t, w.Instance.Kill(old))
	check(t, enclave.GoOn(ctx, chains, blocks))
	step("100 more after the end of the enclave")
	if e := running(t, w); e.EnclaveID == old.EnclaveID {
		t.Errorf("the enclave %s was killed and runs", e.EnclaveID)
	}
	flags, err := w.TestRoots()
	check(t, err)
	strange, err := w.BuildImage(ctx, "strange", append(flags, "--allow-raw-bytes")...)
	check(t, err)
	for _, c := range chains {
		check(t, c.VerifyCommits(ctx, 1, 2*blocks))
		attests(ctx, t, w, im, strange, s, c)
	}
	log, err := os.ReadFile(s.Log)
	check(t, err)
	for text, times := range map[string]int{`"launched the enclave"`: 1, `"found the enclave running"`: 2} {
		if n := bytes.Count(log, []byte(text)); n != times {
			t.Errorf("the log says %s %d times, want %d", text, n, times)
		}
	}
}

// Noise ends inside: both sides are pinned, so the node serves nobody but the
// enclave's identity, which is the same in its next boot.
func TestNoiseChain(t *testing.T) {
	ctx := story.Within(t, 90*time.Second)
	w := newWorld(t)
	im := testImage(ctx, t, w)
	s, chains, err := w.InitChains(ctx, w.InitFlags(im), "noise")
	need(t, err)
	story.StartSigner(t, s)
	story.StartNode(t, chains[0].Node, chains[0].Addr)
	const blocks = 20
	check(t, chains[0].Node.WaitHeight(ctx, blocks+1))
	check(t, w.Instance.Kill(running(t, w)))
	check(t, enclave.GoOn(ctx, chains, 5))
	check(t, chains[0].VerifyCommits(ctx, 1, blocks+5))
}

// running returns the only enclave that runs.
func running(t *testing.T, w *world.World) rig.Enclave {
	t.Helper()
	all, err := w.Instance.Enclaves()
	check(t, err)
	if len(all) != 1 {
		t.Fatalf("%d enclaves run: %+v", len(all), all)
	}
	return all[0]
}

// pin narrows the KMS key's policy down to the keys that were made.
func pin(ctx context.Context, t *testing.T, w *world.World, im *world.Image, s *noderig.Signer, chains []*enclave.Chain) {
	t.Helper()
	flags := []string{"--pcr8", "--pcr1-pcr2", "--instance", w.Instance.ID}
	for _, c := range chains {
		key := c.Key.Base64()
		flags = append(flags, "--chain-id", c.ID, "--public-key", key)
	}
	if identity := identityOf(t, s); identity != "" {
		flags = append(flags, "--public-key", identity)
	}
	check(t, w.LetIn(ctx, im, flags...))
}

// identityOf returns the public key of the identity, base64, from the document
// that came with it.
func identityOf(t *testing.T, s *noderig.Signer) string {
	t.Helper()
	out, err := output(t.Context(), "verify", filepath.Join(s.Home, "identity.attestation"), "--eif", filepath.Join(filepath.Dir(s.Home), "privyseal.eif"), "--test-root", filepath.Join(filepath.Dir(s.Home), "root.pem"))
	check(t, err)
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "base64" {
			return f[1]
		}
	}
	t.Fatalf("no public key in\n%s", out)
	return ""
}

// verifiedAtInit checks the document that init left.
func verifiedAtInit(ctx context.Context, t *testing.T, w *world.World, im *world.Image, s *noderig.Signer, c *enclave.Chain) {
	t.Helper()
	out, err := w.Run(ctx, "verify", filepath.Join(s.Home, "keys", c.ID+".attestation"), "--eif", im.Path, "--test-root", w.RootPath(), "--chain-id", c.ID, "--kms-key", world.Key)
	check(t, err)
	if !strings.Contains(out, "NOT AWS") || !strings.Contains(out, "generated") {
		t.Errorf("verify says of the document of init\n%s", out)
	}
}

// attests checks a new document of the running enclave: with what is expected,
// and against what is not, such as a strange image.
func attests(ctx context.Context, t *testing.T, w *world.World, im, strange *world.Image, s *noderig.Signer, c *enclave.Chain) {
	t.Helper()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	text := hex.EncodeToString(nonce)
	doc := filepath.Join(w.Dir, c.ID+".attest")
	_, err := w.Run(ctx, "nitro", "attest", "--home", s.Home, "--chain-id", c.ID, "--nonce", text, "--out", doc)
	check(t, err)
	key := c.Key.Base64()
	out, err := w.Run(ctx, "verify", doc, "--eif", im.Path, "--test-root", w.RootPath(), "--nonce", text, "--chain-id", c.ID, "--public-key", key, "--kms-key", world.Key,
		"--pcr0", im.PCRs["0"], "--pcr8", im.PCRs["8"], "--pcr3", w.Instance.Role, "--pcr4", w.Instance.ID)
	check(t, err)
	// What the guest's kernel read is what was printed when the image was built.
	same(t, "the document", world.PCRs(out), im.PCRs)

	ours, release := []string{"--test-root", w.RootPath(), "--eif", im.Path}, []string{"--test-root", w.RootPath(), "--policy", im.Policy, "--pcr1"}
	for _, other := range []struct {
		args []string
		want string // in the error
	}{
		{append(release, im.PCRs["1"]), ""},
		{append(release, flip(im.PCRs["1"])), "PCR1"},
		{append(release, im.PCRs["1"], "--pcr8", flip(im.PCRs["8"])), "PCR8"},
		{[]string{"--test-root", w.RootPath(), "--eif", strange.Path}, "PCR0"},
		{append(ours, "--nonce", flip(text)), "nonce"},
		{append(ours, "--chain-id", "other-chain"), "chain id"},
		{append(ours, "--kms-key", world.Key+"0"), "KMS key"},
		{append(ours, "--public-key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "public key"},
		{append(ours, "--pcr3", w.Instance.Role+"2"), "PCR3"},
		{append(ours, "--pcr4", "i-0123456789abcdef1"), "PCR4"},
		// Nobody is to believe in the test root because the image does.
		{ours[2:], "root of your own"},
		// Else AWS's has to stand above the document.
		{[]string{"--pcr0", im.PCRs["0"]}, "root"},
		{[]string{"--any-image"}, "root"},
		{nil, ""},
	} {
		out, err := w.Run(ctx, append([]string{"verify", doc}, other.args...)...)
		switch good := other.want == "" && other.args != nil; {
		case good && err != nil:
			t.Error(err)
		case !good && (err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), other.want)):
			t.Errorf("verify %q: %v\n%s", other.args, err, out)
		}
	}
}

// signImages makes a certificate that images are signed with.
func signImages(t *testing.T, w *world.World) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	w.SignKey, w.SignCert = filepath.Join(w.Dir, "sign.key"), filepath.Join(w.Dir, "sign.pem")
	check(t, os.WriteFile(w.SignKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	check(t, os.WriteFile(w.SignCert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
}

// flip changes one bit of the first byte.
func flip(hexText string) string {
	b, err := hex.DecodeString(hexText)
	if err != nil {
		panic(err) // ours
	}
	b[0] ^= 1
	return hex.EncodeToString(b)
}

// QEMU's own reader of images measures what we print, and so does `nitro
// measure`.
func TestMeasurements(t *testing.T) {
	ctx := story.Within(t, time.Minute)
	w := newWorld(t)
	signImages(t, w)
	im := testImage(ctx, t, w)
	out, err := w.Run(ctx, "nitro", "measure", im.Path)
	check(t, err)
	same(t, "nitro measure", world.PCRs(out), im.PCRs)
	out, err = w.Run(ctx, "nitro", "measure", "--json", im.Path)
	check(t, err)
	var printed struct{ Measurements map[string]string }
	check(t, json.Unmarshal([]byte(out), &printed))
	for i, pcr := range im.PCRs {
		if printed.Measurements["PCR"+i] != pcr {
			t.Errorf("PCR%s is %s in JSON, want %s", i, printed.Measurements["PCR"+i], pcr)
		}
	}
	same(t, "QEMU", measuredByQEMU(ctx, t, im), im.PCRs)
}

// measuredByQEMU boots the image on QEMU's machine nitro-enclave, which takes
// images apart by itself, and has the enclave attest. That module's documents
// carry no signature.
func measuredByQEMU(ctx context.Context, t *testing.T, im *world.Image) map[string]string {
	t.Helper()
	if _, err := rig.QEMUNitro(); err != nil {
		need(t, err)
	}
	image, err := os.ReadFile(im.Path)
	check(t, err)
	dir, err := rig.NewDir()
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	m, err := rig.Start(rig.Config{Image: image, Dir: dir, QEMUReads: true})
	check(t, err)
	t.Cleanup(m.Kill)
	_, err = m.Heartbeat(ctx)
	check(t, err)
	reply := ask(ctx, t, vsock.Host{CID: 16, Dir: dir}, hostlink.Request{ImportKey: &hostlink.ImportKey{}})
	var signed []cbor.RawMessage
	check(t, cbor.Unmarshal(reply.Document, &signed))
	var payload []byte
	check(t, cbor.Unmarshal(signed[2], &payload))
	var doc struct {
		PCRs map[int][]byte `cbor:"pcrs"`
	}
	check(t, cbor.Unmarshal(payload, &doc))
	pcrs := map[string]string{}
	for i, pcr := range doc.PCRs {
		pcrs[strconv.Itoa(i)] = hex.EncodeToString(pcr)
	}
	return pcrs
}

// ask asks an enclave that has said its heartbeat, by the port that its host
// uses.
func ask(ctx context.Context, t *testing.T, h vsock.Host, req hostlink.Request) hostlink.Reply {
	t.Helper()
	for {
		conn, err := h.Dial(ctx, hostlink.ControlPort)
		if err == nil {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			reply, err := hostlink.Call(conn, req)
			check(t, err)
			return reply
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the enclave does not answer: %v", err)
		case <-time.After(20 * time.Millisecond): // between heartbeat and its port
		}
	}
}

func same(t *testing.T, who string, got, want map[string]string) {
	t.Helper()
	for _, i := range []string{"0", "1", "2", "8"} {
		if got[i] != want[i] || got[i] == "" && i != "8" {
			t.Errorf("%s: PCR%s is %s, want %s", who, i, got[i], want[i])
		}
	}
}
