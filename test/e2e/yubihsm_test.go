package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
)

// hsmVersions are those that a YubiHSM signs for, one of them at each commit.
var hsmVersions = []string{"v0.34.35", "v0.37.18", "v0.38.26", "v0.39.4", "v0.40.0", "v1.0.1", "v2.0.0-rc1"}

// Two devices with the same key of secp256k1, of which one dies: the chain goes on. So it
// does when that one is back, and the other dies.
func TestTwoYubiHSMs(t *testing.T) {
	for _, version := range turnOf(t, hsmVersions) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			twoYubiHSMs(t, version)
		})
	}
}

func twoYubiHSMs(t *testing.T, version string) {
	ctx := story.Within(t, 2*time.Minute)
	y := newHSMChain(ctx, t, version, 2)
	secret := make([]byte, 32)
	rand.Read(secret) // the host remembers what a key has signed
	args := []string{"--provider", "yubihsm", "--yubihsm-take", "--yubihsm-key-id", "1", "--fresh-state", "--yes",
		"--yubihsm-auth-key", "4", "--yubihsm-password-file", filepath.Join(y.dir, "password"), "--yubihsm-audit-dir", filepath.Join(y.dir, "audit")}
	check(t, os.WriteFile(filepath.Join(y.dir, "password"), []byte("four"), 0o600))
	for _, d := range y.dev {
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 1, Algorithm: yubihsmtest.K256, Capabilities: yubihsmtest.CanSignECDSA}, secret)
		d.Audit(true)
		args = append(args, "--yubihsm-device", d.URL())
	}
	var err error
	y.signer, err = rig.InitSigner(ctx, program, y.signer.Home, "mychain-1", []string{y.addr}, args...)
	need(t, err)
	y.start(ctx)
	if y.key.Type() != pubkey.Secp256k1 {
		t.Errorf("the key is of %v", y.key)
	}
	y.goesOn(ctx)
	y.dev[0].Unplug()
	says(ctx, t, y.signer, "a YubiHSM failed")
	y.goesOn(ctx)
	y.dev[0].Plug()
	says(ctx, t, y.signer, "a YubiHSM is back")
	y.dev[1].StopConnector()
	y.goesOn(ctx)
	y.audited(ctx)
}

// audited fails the test if a signature of a device is not known to be the signer's, while it
// runs.
func (y *hsmChain) audited(ctx context.Context) {
	y.t.Helper()
	out, err := rig.Output(ctx, program, "yubihsm", "audit", "--check", filepath.Join(y.dir, "audit"), "--json")
	check(y.t, err)
	var reports []struct {
		Signatures, Matched int
		Findings            []any
	}
	check(y.t, json.Unmarshal([]byte(out), &reports))
	if len(reports) != len(y.dev) {
		y.t.Fatalf("the audit is of %d devices: %s", len(reports), out)
	}
	for i, r := range reports {
		if r.Signatures == 0 || r.Matched == 0 || len(r.Findings) > 0 {
			y.t.Errorf("the audit of device %d finds %s", i, out)
		}
	}
}

// hsmChain is a node whose signer has its key on devices.
type hsmChain struct {
	t      *testing.T
	dir    string
	dev    []*yubihsmtest.Device
	node   *rig.Node
	signer *rig.Signer
	addr   string
	key    pubkey.Key
}

// newHSMChain returns a chain of n devices that are set up as tmkms does it: authentication
// key 2 makes keys, and 4 signs.
func newHSMChain(ctx context.Context, t *testing.T, version string, n int) *hsmChain {
	t.Helper()
	y := &hsmChain{t: t, dir: newDir(t)}
	const makes = yubihsmtest.CanSignEdDSA | yubihsmtest.CanGenerateAsymmetric
	for i := range n {
		d := yubihsmtest.New(t, yubihsmtest.Options{SignTime: 10 * time.Millisecond, RealTime: true, Serial: yubihsmtest.DefaultSerial + uint32(i)})
		d.ProvisionAuth(t, 4, "four", yubihsmtest.CanSignEdDSA|yubihsmtest.CanSignECDSA|yubihsmtest.CanGetLog)
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 2, Algorithm: yubihsmtest.AES128Auth, Capabilities: makes, Delegated: makes}, []byte("two"))
		y.dev = append(y.dev, d)
	}
	var err error
	y.node, err = rig.InitNode(ctx, version, filepath.Join(y.dir, "node"))
	need(t, err)
	y.addr = "unix://" + filepath.Join(y.dir, "n.sock")
	y.signer = &rig.Signer{Program: program, Home: filepath.Join(y.dir, "signer")}
	return y
}

// start starts signer and node, with vote extensions where the version has them.
func (y *hsmChain) start(ctx context.Context) {
	y.t.Helper()
	check(y.t, y.signer.Configure("listen", `""`))
	key, text := showKey(ctx, y.t, y.signer)
	y.key = key
	check(y.t, y.node.EditGenesis(func(g *rig.Genesis) {
		g.SetChainID("mychain-1")
		g.SetValidator(0, text, string(key.Type()))
		g.EnableVoteExtensions()
	}))
	story.StartSigner(y.t, y.signer)
	startNode(y.t, y.node, y.addr)
	check(y.t, y.node.WaitHeight(ctx, 2))
}

// goesOn waits for blocks that the key has signed.
func (y *hsmChain) goesOn(ctx context.Context) {
	y.t.Helper()
	height, err := y.node.Height(ctx)
	check(y.t, err)
	check(y.t, y.node.WaitHeight(ctx, height+4))
	verifyCommit(ctx, y.t, y.node, y.key, height+3)
}
