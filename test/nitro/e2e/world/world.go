// Package world is an operator's world with enclaves, for the tests in
// test/nitro/e2e, the demo and the bench: the shipped programs, an EC2 instance
// and KMS of test/nitro/rig, and real nodes of test/e2e/rig.
//
// It drives privyseal through its command line alone, as an operator does by
// doc/nitro.md.
package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
	noderig "privyseal/test/e2e/rig"
	"privyseal/test/nitro/rig"
)

const (
	// Key is the ARN of the KMS key.
	Key    = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
	region = "eu-central-1"
	// ServerName is the name in KMS's certificate.
	ServerName = "kms.test"
)

// ErrMissing says that QEMU, the kernel or the node is not there; what wraps it
// names the command that brings it.
var ErrMissing = errors.New("something for enclaves is not there")

// Programs are the shipped programs.
type Programs struct{ Privyseal, Enclave string }

// Build builds the programs into dir as the Makefile does, for the architecture;
// "" is that of this machine.
func Build(ctx context.Context, dir, arch string) (Programs, error) {
	p := Programs{filepath.Join(dir, "privyseal"), filepath.Join(dir, "privyseal-enclave")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return p, err
	}
	builds := [][]string{
		{"-buildvcs=auto", "-ldflags", "-s -w", "-o", p.Privyseal, "privyseal/cmd/privyseal"},
		{"-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", p.Enclave, "privyseal/cmd/privyseal-enclave"},
	}
	if arch != "" {
		builds = builds[1:]
		p.Privyseal = ""
	}
	for _, args := range builds {
		cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if arch != "" {
			cmd.Env = append(cmd.Env, "GOOS=linux", "GOARCH="+arch)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return p, fmt.Errorf("cannot build: %w\n%s", err, out)
		}
	}
	return p, nil
}

// World is one instance with its KMS. Its folders are removed by Close.
type World struct {
	Programs
	Dir      string // on a disk
	Root     *rig.Root
	KMS      *rig.KMS
	Instance *rig.Instance
	// Kernel and Program, if set, are the files that images are built with, and Driver is the
	// kernel's nsm.ko.
	Kernel, Program, Driver string
	// SignKey and SignCert, if set, are the files that images are signed with.
	SignKey, SignCert string
	// Relay stands between the instance and KMS, as an egress proxy does.
	Relay *Relay
}

// New makes a world. The AWS credentials go into this process's environment,
// where the programs find them: they are the same in each world.
func New(p Programs) (w *World, err error) {
	w = &World{Programs: p}
	if _, err := rig.QEMU(); err != nil {
		return nil, errors.Join(ErrMissing, err)
	}
	if _, err := rig.Kernel(); err != nil {
		return nil, errors.Join(ErrMissing, err)
	}
	defer func() {
		if err != nil {
			w.Close()
			w = nil
		}
	}()
	if w.Dir, err = noderig.NewDir(); err != nil {
		return w, err
	}
	if w.Root, err = rig.NewRoot(); err != nil {
		return w, err
	}
	if w.KMS, err = rig.NewKMS(w.Root, ServerName, region); err != nil {
		return w, err
	}
	if w.Relay, err = newRelay(w.KMS.Addr()); err != nil {
		return w, err
	}
	dir, err := rig.NewDir()
	if err != nil {
		return w, err
	}
	if w.Instance, err = rig.NewInstance(rig.Instance{Dir: dir}, w.Root); err != nil {
		return w, errors.Join(err, os.RemoveAll(dir))
	}
	role := secret.AWS{AccessKeyID: "AKIATESTVALIDATOR", SecretAccessKey: secret.New("secretAccessKeyOfTheTests"), SessionToken: secret.New("sessionTokenOfTheTests")}
	w.KMS.AddPrincipal(role, w.Instance.Role)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": role.AccessKeyID, "AWS_SECRET_ACCESS_KEY": role.SecretAccessKey.Reveal(), "AWS_SESSION_TOKEN": role.SessionToken.Reveal(),
		"AWS_EC2_METADATA_DISABLED": "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			return w, err
		}
	}
	return w, nil
}

// Close ends all enclaves and KMS, and removes all files.
func (w *World) Close() error {
	var errs []error
	if w.Instance != nil {
		errs = append(errs, w.Instance.Close(), os.RemoveAll(w.Instance.Dir))
	}
	if w.Relay != nil {
		w.Relay.Cut()
	}
	if w.KMS != nil {
		w.KMS.Close()
	}
	if w.Dir != "" {
		errs = append(errs, os.RemoveAll(w.Dir))
	}
	return errors.Join(errs...)
}

// Run runs privyseal to its end and returns its standard output. The error holds
// its standard error.
func (w *World) Run(ctx context.Context, args ...string) (string, error) {
	return noderig.Output(ctx, w.Privyseal, args...)
}

// Image is an enclave image, as it was built.
type Image struct {
	Path, Policy string
	// PCRs are as `privyseal nitro build` printed them, hex, by number.
	PCRs map[string]string
}

// TestRoots returns the flags of `nitro image-policy` that name this world's KMS
// and attestation root.
func (w *World) TestRoots() ([]string, error) {
	tls, root := filepath.Join(w.Dir, "kms.pem"), w.RootPath()
	err := errors.Join(os.WriteFile(tls, w.KMS.CA(), 0o600), os.WriteFile(root, w.Root.PEM(), 0o600))
	return []string{"--tls-roots", tls, "--attestation-root", root}, err
}

// RootPath is the file of the attestation root, once TestRoots was called.
func (w *World) RootPath() string { return filepath.Join(w.Dir, "root.pem") }

// BuildImage builds an image of the kernel and the program, with a policy that
// more flags of `nitro image-policy` may change.
func (w *World) BuildImage(ctx context.Context, name string, more ...string) (*Image, error) {
	kernel, err := w.Kernel, error(nil)
	if kernel == "" {
		kernel, err = rig.Kernel()
	}
	if err != nil {
		return nil, err
	}
	args := append([]string{"nitro", "image-policy", "--kms-key", Key, "--endpoint", w.Relay.Addr, "--server-name", ServerName}, more...)
	policy, err := w.Run(ctx, args...)
	if err != nil {
		return nil, err
	}
	im := &Image{Path: filepath.Join(w.Dir, name+".eif"), Policy: filepath.Join(w.Dir, name+".json")}
	if err := os.WriteFile(im.Policy, []byte(policy), 0o600); err != nil {
		return nil, err
	}
	args = []string{"nitro", "build", "--kernel", kernel, "--policy", im.Policy, "--out", im.Path}
	if w.Program != "" { // and not the one beside privyseal
		args = append(args, "--program", w.Program)
	}
	if w.Driver != "" {
		args = append(args, "--nsm-module", w.Driver)
	}
	if w.SignKey != "" {
		args = append(args, "--sign-key", w.SignKey, "--sign-cert", w.SignCert)
	}
	out, err := w.Run(ctx, args...)
	im.PCRs = PCRs(out)
	return im, err
}

var register = regexp.MustCompile(`(?m)^PCR(\d) +([0-9a-f]{96})\b`)

// PCRs reads the registers that privyseal prints.
func PCRs(text string) map[string]string {
	pcrs := map[string]string{}
	for _, m := range register.FindAllStringSubmatch(text, -1) {
		pcrs[m[1]] = m[2]
	}
	return pcrs
}

// LetIn puts the policy of `privyseal nitro key-policy` into KMS. More flags may pin
// it further.
func (w *World) LetIn(ctx context.Context, im *Image, more ...string) error {
	policy, err := w.Run(ctx, append([]string{"nitro", "key-policy", "--role", w.Instance.Role, "--eif", im.Path}, more...)...)
	if err != nil {
		return err
	}
	return w.KMS.AddKey(Key, []byte(policy))
}

// InitFlags are those of `privyseal init` for the instance and an image.
func (w *World) InitFlags(im *Image) []string {
	return []string{
		"--provider", "nitro", "--eif", im.Path, "--region", region, "--kms-key", Key,
		"--transport", w.Instance.Sockets(), "--nitro-cli", w.Instance.CLI(),
	}
}

// Chain is a lone validator whose key is in the enclave.
type Chain struct {
	ID   string
	Addr string // where the node listens for its signer
	Node *noderig.Node
	Key  pubkey.Key

	dial string // where the signer dials the node: with noise, each names the other
}

// NodeVersion is that of the nodes; noise takes NoiseVersion.
const (
	NodeVersion  = "v0.38.26"
	NoiseVersion = "v0.40.0"
)

// InitChains makes the home of a signer for chains by transport (unix, tcp or noise),
// and the homes of their nodes. The first init launches the enclave.
func (w *World) InitChains(ctx context.Context, im *Image, transports ...string) (*noderig.Signer, []*Chain, error) {
	var s *noderig.Signer
	var chains []*Chain
	for _, transport := range transports {
		c, err := w.newChain(ctx, transport)
		if err != nil {
			return nil, nil, err
		}
		if s == nil {
			if s, err = noderig.InitSigner(ctx, w.Privyseal, filepath.Join(w.Dir, "signer"), c.ID, []string{c.dial}, w.InitFlags(im)...); err != nil {
				return nil, nil, err
			}
		} else if _, err := w.Run(ctx, "init", "--home", s.Home, "--chain-id", c.ID, "--node", c.dial, "--provider", "nitro"); err != nil {
			return nil, nil, err
		}
		if err := w.putKey(ctx, s, c); err != nil {
			return nil, nil, err
		}
		chains = append(chains, c)
	}
	return s, chains, nil
}

func (w *World) newChain(ctx context.Context, transport string) (*Chain, error) {
	c := &Chain{ID: "nitro-" + transport}
	version := NodeVersion
	if transport == "noise" {
		version = NoiseVersion
	}
	var err error
	c.Node, err = noderig.InitNode(ctx, version, filepath.Join(w.Dir, transport))
	if errors.Is(err, noderig.ErrMissing) {
		err = errors.Join(ErrMissing, err)
	}
	if err != nil {
		return c, err
	}
	port, err := noderig.FreePort()
	if err != nil {
		return c, err
	}
	switch transport {
	case "unix":
		c.Addr = "unix://" + filepath.Join(w.Instance.Dir, transport+".sock")
	case "tcp":
		c.Addr = fmt.Sprintf("tcp://127.0.0.1:%d", port)
	case "noise":
		peer, err := c.Node.PeerID(ctx)
		if err != nil {
			return c, err
		}
		c.dial = fmt.Sprintf("noise://%s@127.0.0.1:%d", peer, port)
		return c, nil // the signer's name for Addr comes with its identity
	}
	c.dial = c.Addr
	return c, nil
}

// putKey makes the chain's key the only validator of its genesis, and has the node
// the identity of its signer if it wants one.
func (w *World) putKey(ctx context.Context, s *noderig.Signer, c *Chain) error {
	text, err := w.Run(ctx, "key", "show", "--home", s.Home, "--chain-id", c.ID, "--format", "json")
	if err != nil {
		return err
	}
	text = strings.TrimSpace(text)
	if c.Key, err = pubkey.ParseJSON([]byte(text)); err != nil {
		return err
	}
	if _, addr, ok := strings.Cut(c.dial, "@"); ok {
		peer, err := w.Run(ctx, "key", "show", "--home", s.Home, "--chain-id", c.ID, "--format", "peer-id")
		if err != nil {
			return err
		}
		c.Addr = "noise://" + strings.TrimSpace(peer) + "@" + addr
	}
	return c.Node.EditGenesis(func(g *noderig.Genesis) {
		g.SetChainID(c.ID)
		g.SetValidator(0, []byte(text), string(c.Key.Type()))
		g.EnableVoteExtensions()
	})
}
