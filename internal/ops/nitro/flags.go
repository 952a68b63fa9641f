package nitro

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/eif"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/policy"
)

// enclaveFlags say which enclave a command works with: one of the config, or a
// new one. What they say of one of the config has to be what the config says:
// `privyseal start` would launch that one, and one launched otherwise is in its way.
type enclaveFlags struct {
	name           string
	want           Enclave
	region, kmsKey string

	set *pflag.FlagSet // nil without a command line
}

// defaultEnclave is the name of the only enclave of most instances.
const defaultEnclave = "main"

func (f *enclaveFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.set, f.want = fl, NewEnclave("")
	fl.StringVar(&f.name, "enclave", "", "name of the enclave in the config (default "+defaultEnclave+")")
	cli.AddOptions(fl, "", options, &f.want)
	fl.StringVar(&f.region, "region", "", "AWS region (default: that of the KMS key)")
	fl.StringVar(&f.kmsKey, "kms-key", "", "ARN of the KMS key, which the image's policy has to name")
}

// choose returns the enclave, and whether the config does not have it yet. Paths
// are absolute.
func (f *enclaveFlags) choose(c *config.Config) (name string, e Enclave, isNew bool, err error) {
	name = cmp.Or(f.name, defaultEnclave)
	if c != nil {
		if f.name == "" && len(Enclaves(c)) == 1 {
			name = slices.Collect(maps.Keys(Enclaves(c)))[0]
		}
		if e, known := Enclaves(c)[name]; known {
			options.Paths(&e, func(path string) (string, error) { return c.Path(path), nil })
			return name, e, false, f.agree(name, e)
		}
	}
	if f.want.EIF == "" {
		return "", e, false, cli.Usagef("--eif FILE is missing: the image, as of `privyseal nitro build`")
	}
	e, err = f.newEnclave(name)
	return name, e, true, err
}

// given reports whether the flag of a key stands on the command line.
func (f *enclaveFlags) given(key string) bool {
	return f.set != nil && f.set.Changed(cli.OptionFlag("", key))
}

// agree compares the flags with an enclave of the config.
func (f *enclaveFlags) agree(name string, e Enclave) error {
	want := f.want
	if err := options.Paths(&want, filepath.Abs); err != nil {
		return err
	}
	for _, op := range options {
		ours, configs := op.Text(&want), op.Text(&e)
		if !f.given(op.Name) || ours == configs || op.Path && sameFile(ours, configs) {
			continue
		}
		has := fmt.Sprintf("%s = %s", op.Name, configs)
		if configs == "" {
			has = "no " + op.Name
		}
		flag := cli.OptionFlag("", op.Name)
		return cli.Usagef("enclave %s of the config has %s, and --%s says %s; leave --%s out, correct the config, or give --enclave another name", name, has, flag, f.set.Lookup(flag).Value, flag)
	}
	return nil
}

// newEnclave returns an enclave of the flags alone, by the rules of the config.
func (f *enclaveFlags) newEnclave(name string) (e Enclave, err error) {
	if !config.ValidTable(name) {
		return e, cli.Usagef("--enclave %q is not a name: 1 to 40 of A-Z a-z 0-9 _ -", name)
	}
	e = f.want
	e.Check(f.given, func(key, wrong string) {
		err = cmp.Or(err, cli.Usagef("--%s %s", cli.OptionFlag("", key), wrong))
	})
	if err == nil {
		err = options.Paths(&e, filepath.Abs)
	}
	return e, err
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// Read reads the image and its policy, and holds the flags against it.
func (f *enclaveFlags) readImage(path string) (*eif.Image, *policy.Policy, error) {
	im, err := image.Read(path)
	if err != nil && f.want.EIF != "" {
		err = cli.OfFlag("eif", err)
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := image.Policy(im)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	case p == nil:
		return nil, nil, cli.Usagef("%s is not an image of `privyseal nitro build`: its command line, its ramdisks or the boundaries between them differ", path)
	case f.kmsKey != "" && f.kmsKey != p.KMSKey:
		return nil, nil, cli.Usagef("--kms-key %s is not the KMS key that the image's policy names, %s; build an image for it, or correct the flag", f.kmsKey, p.KMSKey)
	case f.region != "" && f.region != p.Region():
		return nil, nil, cli.Usagef("--region %s is not that of the KMS key, %s", f.region, p.Region())
	}
	return im, p, nil
}
