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
	"os"
	"path/filepath"
	"regexp"

	"privyseal/internal/secret"
	"privyseal/test/enclave"
	"privyseal/test/nitro/rig"
)

const (
	// Key is the ARN of the KMS key.
	Key    = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
	region = "eu-central-1"
	// ServerName is the name in KMS's certificate.
	ServerName = "kms.test"
)

// World is one instance with its KMS. Its folders are removed by Close.
type World struct {
	enclave.Site
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
func New(p enclave.Programs) (w *World, err error) {
	w = &World{}
	if _, err := rig.QEMU(); err != nil {
		return nil, err
	}
	if _, err := rig.Kernel(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.Close()
			w = nil
		}
	}()
	if w.Site, err = enclave.NewSite(p, "nitro"); err != nil {
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
	return errors.Join(append(errs, w.Site.Close())...)
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
