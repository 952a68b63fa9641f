package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/secret"
	"privyseal/internal/vsock"
	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/nitro/e2e/world"
)

// Every byte that leaves the guest, from init to the refusals of a running signer
// at its most talkative, is searched for the secrets in it: a key that was made
// inside, the identity, one that was imported, and the data keys that wrap them.
// The test knows them because its KMS opens everything for it.
func TestNothingLeaks(t *testing.T) {
	ctx := story.Within(t, 90*time.Second)
	w := newWorld(t)
	im := testImage(ctx, t, w)
	s, chains, err := w.InitChains(ctx, w.InitFlags(im), "unix", "tcp")
	need(t, err)
	imported := importKey(ctx, t, w, s)

	// The tcp chain has a real node; we are the node of the unix chain.
	path := strings.TrimPrefix(chains[0].Addr, "unix://")
	listen, err := net.Listen("unix", path)
	check(t, err)
	t.Cleanup(func() { listen.Close() })
	story.StartSigner(t, s)
	story.StartNode(t, chains[1].Node, chains[1].Addr)
	check(t, chains[1].Node.WaitHeight(ctx, 5))
	badNode(ctx, t, listen, chains[0].ID)
	for _, c := range chains {
		_, err := w.Run(ctx, "nitro", "attest", "--home", s.Home, "--chain-id", c.ID, "--nonce", "00ff")
		check(t, err)
	}
	badHost(ctx, t, w, s, chains[0].ID)
	check(t, w.Instance.Kill(running(t, w)))
	check(t, enclave.GoOn(ctx, chains[1:], 5))

	secrets := map[string][]byte{"the imported seed": imported}
	for _, name := range []string{"keys/nitro-unix.wrapped", "keys/nitro-tcp.wrapped", "identity.wrapped"} {
		wrapped, err := os.ReadFile(filepath.Join(s.Home, name))
		check(t, err)
		dataKey, seed, err := w.KMS.Unwrap(wrapped)
		check(t, err)
		secrets["the seed of "+name] = seed
		secrets["the data key of "+name] = dataKey
		// What ed25519 signs with (RFC 8032, 5.1.5).
		expanded := sha512.Sum512(seed)
		secrets["the expanded seed of "+name] = expanded[:32]
		secrets["the nonce key of "+name] = expanded[32:]
	}
	key := ed25519.NewKeyFromSeed(secrets["the seed of keys/nitro-unix.wrapped"]).Public().(ed25519.PublicKey)
	if !bytes.Equal(key, chains[0].Key.Bytes()) {
		t.Fatal("what was unwrapped is not the seed")
	}
	left := allThatLeft(t, w)
	t.Logf("%d bytes left the guests", len(left))
	for what, secret := range secrets {
		if form := find(left, secret); form != "" {
			t.Errorf("%s left the guest, %s", what, form)
		}
	}
	// The search does find: the public key left in more than one form.
	for _, secret := range [][]byte{key, []byte("enclave started")} {
		if find(left, secret) == "" {
			t.Errorf("%.20q did not leave the guest, or the search finds nothing", secret)
		}
	}
}

// importKey brings a key of ours in, as a ciphertext of `aws kms encrypt`, and
// returns its seed.
func importKey(ctx context.Context, t *testing.T, w *world.World, s *noderig.Signer) []byte {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	blob, err := w.KMS.Encrypt(world.Key, nil, seed)
	check(t, err)
	file := filepath.Join(w.Dir, "imported.kms")
	check(t, os.WriteFile(file, blob, 0o600))
	public := base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	_, err = w.Run(ctx, "init", "--home", s.Home, "--provider", "nitro", "--chain-id", "nitro-imported", "--node", "unix:///nobody.sock",
		"--import-kms", file, "--public-key", public, "--fresh-state")
	check(t, err)
	return seed
}

// badNode is a node that asks for what is refused, and then talks nonsense.
func badNode(ctx context.Context, t *testing.T, listen net.Listener, chainID string) {
	t.Helper()
	conn, err := listen.Accept()
	check(t, err)
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	r := bufio.NewReader(conn)
	vote := func(height int64, block string) privval.Request {
		hash := sha256.Sum256([]byte(block))
		return privval.Request{
			Kind: privval.KindPrecommit, ChainID: chainID, Height: height,
			BlockID:   privval.BlockID{Hash: hash[:], PartsTotal: 1, PartsHash: hash[:]},
			Timestamp: privval.Timestamp{Seconds: 1}, ValidatorAddress: make([]byte, 20), Extension: []byte("an extension"),
		}
	}
	other := vote(6, "one")
	other.ChainID = "another-chain"
	for _, c := range []struct {
		req     privval.Request
		refused bool
	}{
		{privval.Request{Kind: privval.KindPubKey, ChainID: chainID}, false},
		{vote(5, "one"), false},
		{vote(5, "another"), true},
		{vote(4, "one"), true},
		{other, true},
		{privval.Request{Kind: privval.KindSignBytes, Bytes: []byte("bytes")}, true},
		{privval.Request{Kind: privval.KindRawBytes, ChainID: chainID, UniqueID: "id", Bytes: []byte("bytes")}, true},
	} {
		resp, err := privvaltest.Call(conn, r, c.req)
		check(t, err)
		if refused := resp.Refused != ""; refused != c.refused {
			t.Errorf("%v at height %d: refused %t (%s)", c.req.Kind, c.req.Height, refused, resp.Refused)
		}
	}
	conn.Write(bytes.Repeat([]byte{0x7f}, 4096))
	io.Copy(io.Discard, conn) // until the signer has hung up
}

// badHost asks for what the enclave refuses its host, with the signer's
// credentials and with wrong ones.
func badHost(ctx context.Context, t *testing.T, w *world.World, s *noderig.Signer, chainID string) {
	t.Helper()
	wrapped, err := os.ReadFile(filepath.Join(s.Home, "keys", chainID+".wrapped"))
	check(t, err)
	tampered := bytes.Clone(wrapped)
	tampered[len(tampered)-1] ^= 1
	good := hostlink.Credentials{
		AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: secret.New(os.Getenv("AWS_SECRET_ACCESS_KEY")), SessionToken: secret.New(os.Getenv("AWS_SESSION_TOKEN")),
	}
	wrong := good
	wrong.SecretAccessKey = secret.New("wrong")
	link := vsock.Host{CID: uint32(running(t, w).EnclaveCID), Dir: w.Instance.Sockets()}
	for _, req := range []hostlink.Request{
		{},
		{Create: &hostlink.Create{ChainID: "x", KeyType: "none", Credentials: good}},
		{Create: &hostlink.Create{ChainID: "x", KeyType: "ed25519", Credentials: wrong}},
		{Import: &hostlink.Import{ChainID: "x", KeyType: "ed25519", Public: make([]byte, 32), KMS: wrapped, Fresh: true, Credentials: good}},
		{Import: &hostlink.Import{ChainID: "x", KeyType: "ed25519", Public: make([]byte, 32), Sealed: wrapped, Fresh: true, Credentials: good}},
		{NewState: &hostlink.NewState{ChainID: chainID, Wrapped: wrapped, AfterHeight: 1, Credentials: good}},
		{Attest: &hostlink.Attest{ChainID: "x"}},
		{Attest: &hostlink.Attest{ChainID: chainID, Nonce: make([]byte, 513)}},
		{Boot: &hostlink.Boot{LogLevel: "loud"}},
		{Boot: &hostlink.Boot{LogLevel: "debug", Credentials: good, Chains: []hostlink.BootChain{{ID: "x", Wrapped: wrapped}, {ID: "y", Wrapped: tampered}, {ID: chainID, Wrapped: tampered}}}},
	} {
		conn, err := link.Dial(ctx, hostlink.ControlPort)
		check(t, err)
		reply, err := hostlink.Call(conn, req)
		conn.Close()
		if err != nil {
			continue // refused
		}
		problems := 0
		for _, c := range reply.Status.Chains {
			if c.Problem != "" {
				problems++
			}
		}
		if req.Boot == nil || problems != 3 {
			t.Errorf("%+v was not refused: %+v", req, reply)
		}
	}
}

// allThatLeft returns what all enclaves of the instance sent over vsock and wrote
// to their consoles.
func allThatLeft(t *testing.T, w *world.World) []byte {
	t.Helper()
	var all []byte
	for _, pattern := range []string{w.Instance.OutgoingFile("*"), w.Instance.ConsoleFile("*")} {
		files, err := filepath.Glob(pattern)
		check(t, err)
		if len(files) < 2 {
			t.Errorf("%d files %s, want one for each of the two boots at least", len(files), pattern)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			check(t, err)
			all = append(all, text...)
		}
	}
	return all
}

// find returns the form in which a secret stands in data, "" if in none: raw, in
// hex, or in base64, also as a part of something longer.
func find(data, secret []byte) string {
	lower := bytes.ToLower(data)
	forms := map[string]bool{
		"raw":            bytes.Contains(data, secret),
		"in hex":         bytes.Contains(lower, []byte(hex.EncodeToString(secret))),
		"as a Go slice":  bytes.Contains(data, []byte(strings.Trim(fmt.Sprint(secret), "[]"))),
		"reversed bytes": bytes.Contains(data, reversed(secret)),
	}
	for shift := range 3 {
		// Whatever comes before and after: the characters that are the secret's alone.
		padded := append(make([]byte, shift), secret...)
		for name, e := range map[string]*base64.Encoding{"in base64": base64.RawStdEncoding, "in base64url": base64.RawURLEncoding} {
			text := e.EncodeToString(padded[:len(padded)/3*3])
			forms[name] = forms[name] || bytes.Contains(data, []byte(text[(shift*8+5)/6:]))
		}
	}
	for name, found := range forms {
		if found {
			return name
		}
	}
	return ""
}

func reversed(b []byte) []byte {
	out := bytes.Clone(b)
	for i := range out {
		out[i] = b[len(b)-1-i]
	}
	return out
}

// The search finds what it has to find, and nothing else.
func TestFind(t *testing.T) {
	secret := sha256.Sum256([]byte("a secret"))
	for shift := range 4 {
		long := append(bytes.Repeat([]byte("x"), shift), append(secret[:], "behind"...)...)
		for form, text := range map[string]string{
			"raw": string(long), "in hex": strings.ToUpper(hex.EncodeToString(long)),
			"in base64": base64.StdEncoding.EncodeToString(long), "in base64url": base64.URLEncoding.EncodeToString(long),
			"as a Go slice": fmt.Sprint(long), "reversed bytes": string(reversed(long)),
		} {
			if got := find([]byte("before"+text), secret[:]); got == "" {
				t.Errorf("%s, %d before it: not found", form, shift)
			}
		}
	}
	other := sha256.Sum256([]byte("another"))
	if got := find([]byte(hex.EncodeToString(other[:])+string(other[:])), secret[:]); got != "" {
		t.Errorf("found %s where it is not", got)
	}
}
