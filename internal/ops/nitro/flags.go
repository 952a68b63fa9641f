package nitro

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
	name, eif      string
	cid            uint32
	memory, cpus   int
	nitroCLI, dir  string
	region, kmsKey string

	set *pflag.FlagSet // nil without a command line
}

// defaultEnclave is the name of the only enclave of most instances.
const defaultEnclave = "main"

func (f *enclaveFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.set = fl
	fl.StringVar(&f.name, "enclave", "", "name of the enclave in the config (default "+defaultEnclave+")")
	about := func(key string) string { return config.Comment(keys, key) }
	fl.StringVar(&f.eif, "eif", "", about("eif"))
	fl.Uint32Var(&f.cid, "cid", 0, about("cid"))
	fl.IntVar(&f.memory, "memory-mib", 0, about("memory_mib"))
	fl.IntVar(&f.cpus, "cpu-count", DefaultCPUCount, about("cpu_count"))
	fl.StringVar(&f.nitroCLI, "nitro-cli", DefaultNitroCLI, about("nitro_cli"))
	fl.StringVar(&f.dir, "transport", "", about("transport"))
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
			e.EIF, e.Transport = c.Path(e.EIF), c.Path(e.Transport)
			return name, e, false, f.agree(name, e)
		}
	}
	if f.eif == "" {
		return "", e, false, cli.Usagef("--eif FILE is missing: the image, as of `privyseal nitro build`")
	}
	e, err = f.newEnclave(name)
	return name, e, true, err
}

// given reports whether a flag stands on the command line.
func (f *enclaveFlags) given(flag string) bool { return f.set != nil && f.set.Changed(flag) }

// agree holds the flags against an enclave of the config.
func (f *enclaveFlags) agree(name string, e Enclave) error {
	dir, err := absolute(f.dir)
	if err != nil {
		return err
	}
	for _, v := range []struct {
		flag          string
		agrees        bool
		ours, configs any
	}{
		{"eif", f.eif == e.EIF || sameFile(f.eif, e.EIF), f.eif, e.EIF},
		{"cid", f.cid == e.CID, f.cid, e.CID},
		{"memory-mib", f.memory == e.MemoryMiB, f.memory, e.MemoryMiB},
		{"cpu-count", f.cpus == e.CPUCount, f.cpus, e.CPUCount},
		{"nitro-cli", f.nitroCLI == e.NitroCLI, f.nitroCLI, e.NitroCLI},
		{"transport", dir == e.Transport || sameFile(dir, e.Transport), f.dir, e.Transport},
	} {
		if !f.given(v.flag) || v.agrees {
			continue
		}
		has := fmt.Sprintf("%s = %v", keyOf(v.flag), v.configs)
		if v.configs == "" || fmt.Sprint(v.configs) == "0" {
			has = "no " + keyOf(v.flag)
		}
		return cli.Usagef("enclave %s of the config has %s, and --%s says %v; leave --%s out, correct the config, or give --enclave another name", name, has, v.flag, v.ours, v.flag)
	}
	return nil
}

// keyOf returns the config's key for a flag, and flagOf the flag for a key.
func keyOf(flag string) string { return strings.ReplaceAll(flag, "-", "_") }
func flagOf(key string) string { return strings.ReplaceAll(key, "_", "-") }

// newEnclave returns an enclave of the flags alone, by the rules of the config.
func (f *enclaveFlags) newEnclave(name string) (e Enclave, err error) {
	if !config.ValidTable(name) {
		return e, cli.Usagef("--enclave %q is not a name: 1 to 40 of A-Z a-z 0-9 _ -", name)
	}
	e = NewEnclave(f.eif)
	e.CID, e.MemoryMiB, e.CPUCount, e.NitroCLI, e.Transport = f.cid, f.memory, f.cpus, f.nitroCLI, f.dir
	e.Check(func(key string) bool { return f.given(flagOf(key)) }, func(key, wrong string) {
		err = cmp.Or(err, cli.Usagef("--%s %s", flagOf(key), wrong))
	})
	if err != nil {
		return e, err
	}
	if e.EIF, err = absolute(e.EIF); err != nil {
		return e, err
	}
	e.Transport, err = absolute(e.Transport)
	return e, err
}

// absolute returns the absolute path, "" of none.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
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
	if err != nil && f.eif != "" {
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
