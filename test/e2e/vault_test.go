package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"privyseal/internal/key/vault/vaulttest"
	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/tools"
)

// A chain whose key is on a real OpenBao server, set up as doc/vault.md says: its blocks
// are typed, in order. The node makes blocks, stands while the server is sealed, goes on
// when it is unsealed, and does not care for a rotation; a key that is exchanged stops it.
func TestVault(t *testing.T) {
	t.Parallel()
	ctx := story.Within(t, 2*time.Minute)
	v := newVaultGuide(ctx, t)
	v.typed()
	v.start(ctx)
	check(t, v.node.WaitHeight(ctx, 5))
	verifyCommit(ctx, t, v.node, v.key, 4)

	v.server.Seal(t)
	says(ctx, t, v.signer, "the server is sealed")
	height, err := v.node.Height(ctx)
	check(t, err)
	v.server.Unseal(t)
	check(t, v.node.WaitHeight(ctx, height+5))
	verifyCommit(ctx, t, v.node, v.key, height+4)

	v.server.Do(t, "POST", "transit/keys/mychain/rotate", nil)
	height, err = v.node.Height(ctx)
	check(t, err)
	check(t, v.node.WaitHeight(ctx, height+3))
	verifyCommit(ctx, t, v.node, v.key, height+2)

	v.server.Do(t, "POST", "transit/keys/mychain/config", map[string]any{"deletion_allowed": true})
	v.server.Do(t, "DELETE", "transit/keys/mychain", nil)
	says(ctx, t, v.signer, "there is no such key")
	v.server.Do(t, "POST", "transit/keys/mychain", map[string]any{"type": "ed25519"})
	says(ctx, t, v.signer, "the key there is not the one that was expected")
}

// vaultGuide is a machine on which doc/vault.md is typed.
type vaultGuide struct {
	t      *testing.T
	dir    string
	server *vaulttest.Server
	node   *rig.Node
	signer *rig.Signer
	addr   string
	key    pubkey.Key
}

func newVaultGuide(ctx context.Context, t *testing.T) *vaultGuide {
	t.Helper()
	v := &vaultGuide{t: t, dir: newDir(t), server: vaulttest.Start(t)}
	// The guide begins with an empty server.
	v.server.Do(t, "DELETE", "sys/mounts/transit", nil)
	v.server.Do(t, "DELETE", "sys/auth/approle", nil)
	var err error
	v.node, err = rig.InitNode(ctx, "v0.38.26", filepath.Join(v.dir, "node"))
	need(t, err)
	v.addr = "unix://" + filepath.Join(v.dir, "n.sock")
	v.signer = &rig.Signer{Program: program, Home: filepath.Join(v.dir, "signer")}
	return v
}

// typed runs the blocks of the guide.
func (v *vaultGuide) typed() {
	v.t.Helper()
	bao, err := tools.Program("bao", "scripts/setup openbao")
	check(v.t, err)
	text := typed(v.t, "vault.md", v.dir, 3, "PATH="+filepath.Dir(program)+":"+filepath.Dir(bao)+":"+os.Getenv("PATH"),
		"BAO_ADDR="+v.server.URL, "BAO_CACERT="+v.server.CAFile, "BAO_TOKEN="+v.server.Root, "NODE="+v.addr, "PRIVYSEAL_HOME="+v.signer.Home)
	if strings.Contains(text, "FAIL") || !strings.Contains(text, " signs with version 1 of key transit/mychain") {
		v.t.Errorf("check says\n%s", text)
	}
}

// start starts signer and node.
func (v *vaultGuide) start(ctx context.Context) {
	v.t.Helper()
	check(v.t, v.signer.Configure("listen", `""`))
	key, text := showKey(ctx, v.t, v.signer)
	v.key = key
	check(v.t, v.node.EditGenesis(func(g *rig.Genesis) {
		g.SetChainID("mychain-1")
		g.SetValidator(0, text, string(key.Type()))
		g.EnableVoteExtensions()
	}))
	story.StartSigner(v.t, v.signer)
	startNode(v.t, v.node, v.addr)
}

// A chain that was signed with a key file goes on with the same key on a server, to which
// the key and its state were brought.
func TestVaultTakesOver(t *testing.T) {
	t.Parallel()
	ctx := story.Within(t, 2*time.Minute)
	server := vaulttest.Start(t)
	c := startChain(ctx, t, setup{version: "v0.38.26", transport: "unix", keyType: pubkey.Ed25519})
	check(t, c.node.WaitHeight(ctx, 5))
	check(t, c.signer.Stop(time.Minute))
	dir := newDir(t)
	state, token := filepath.Join(dir, "state"), filepath.Join(dir, "token")
	check(t, os.WriteFile(token, []byte(server.Root), 0o600))
	_, err := rig.Output(ctx, program, "state", "export", "--home", c.signer.Home, "--chain-id", c.id, "--out", state)
	check(t, err)
	old, err := os.ReadFile(filepath.Join(c.signer.Home, "privyseal.toml"))
	check(t, err)
	addr := regexp.MustCompile(`unix://[^"]*`).FindString(string(old))
	args := []string{"--provider", "vault", "--vault-address", server.URL, "--vault-ca-file", server.CAFile, "--vault-token-file", token, "--vault-key", "moved",
		"--import-key", filepath.Join(c.signer.Home, "keys", c.id+".key"), "--import-state", state, "--yes", "--export-unused"}
	s, err := rig.InitSigner(ctx, program, filepath.Join(dir, "signer"), c.id, []string{addr}, args...)
	check(t, err)
	if key, _ := showKey(ctx, t, s); !key.Equal(c.key) {
		t.Errorf("the key on the server is %v, not %v", key, c.key)
	}
	height, err := c.node.Height(ctx)
	check(t, err)
	story.StartSigner(t, s)
	t.Cleanup(func() { c.node.Stop(time.Minute) }) // before its signer
	check(t, c.node.WaitHeight(ctx, height+5))
	verifyCommit(ctx, t, c.node, c.key, height+4)
}
