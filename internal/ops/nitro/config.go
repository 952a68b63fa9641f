// Package nitro is the provider whose keys are in AWS Nitro Enclaves: its tables of the
// config, what check and init want of it, the enclave launched, spoken to and served, and
// its own commands. The instance that this runs on is not trusted by the enclave, and so
// nothing here is: what an enclave says about itself is verified where it counts.
//
// Images and policies, for which nothing is launched, are in internal/ops/nitro/image, keys
// that are sealed to an enclave elsewhere in internal/ops/nitro/seal, and what an
// attestation document proves in internal/ops/nitro/verify.
package nitro

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/enclavechain"
	"privyseal/internal/enclavecommand"
	"privyseal/internal/secret"
)

// table is the first name of [enclave.NAME], and the key by which a chain names one.
const table = "enclave"

// DefaultNitroCLI is the launcher where nothing names another one.
const DefaultNitroCLI = "nitro-cli"

// MinMemoryMiB is the least memory of an enclave, and its default where four
// times the image is less.
const MinMemoryMiB = 64

// Enclave is one AWS Nitro Enclave. Paths are relative to the folder of the
// config file.
type Enclave struct {
	EIF       string
	CID       uint32 // 0: nitro-cli chooses
	MemoryMiB int    // 0: four times the image, and at least MinMemoryMiB
	CPUCount  int
	NitroCLI  string
	// Transport is "" for AF_VSOCK, or a folder with unix sockets named as Firecracker
	// names them: vsock-CID is the monitor's, vsock-CID_PORT ours. Only the names are
	// Firecracker's: the monitor has to dial from a port below 1024.
	Transport   string
	StopEnclave bool
	Credentials Credentials
}

// Credentials are AWS credentials that do not change; the zero value is those that the AWS
// SDK finds.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey secret.Text
	SessionToken    secret.Text // may be ""
}

// options are the keys of [enclave.NAME].
var options = config.Options[Enclave]{
	{Name: "eif", Of: func(e *Enclave) any { return &e.EIF }, Required: true, Path: true, Comment: "the enclave's image", More: "`privyseal nitro build` makes it."},
	{Name: "cid", Of: func(e *Enclave) any { return &e.CID }, Example: "16", Comment: "context id of the enclave, 4 or above (default: nitro-cli chooses)"},
	{Name: "memory_mib", Of: func(e *Enclave) any { return &e.MemoryMiB }, Example: fmt.Sprint(MinMemoryMiB),
		Comment: "memory of the enclave (default: four times the image)", More: fmt.Sprintf("At least %d.", MinMemoryMiB)},
	{Name: "cpu_count", Of: func(e *Enclave) any { return &e.CPUCount }, Standard: "2", Example: "2", Comment: "virtual CPUs of the enclave", More: "1 to 256."},
	{Name: "nitro_cli", Of: func(e *Enclave) any { return &e.NitroCLI }, Standard: DefaultNitroCLI, Example: DefaultNitroCLI, Comment: "AWS's launcher: a name in $PATH, or a path"},
	{Name: "transport", Of: func(e *Enclave) any { return &e.Transport }, Path: true, Comment: "folder of unix sockets in place of AF_VSOCK",
		More: "See doc/formats.md. With AF_VSOCK a host has one enclave."},
	{Name: "stop_enclave", Of: func(e *Enclave) any { return &e.StopEnclave }, Example: "false", FileOnly: true, Comment: "end it together with `privyseal start`",
		More: "Otherwise the enclave waits for the next start, and signs nothing meanwhile."},
	{Name: "credentials.access_key_id", Of: func(e *Enclave) any { return &e.Credentials.AccessKeyID }, Required: true, FileOnly: true,
		More: "Credentials that are used in place of those that the AWS SDK finds: environment, shared files, web identity, the instance's role. With them the config must have mode 0600 or stricter."},
	{Name: "credentials.secret_access_key", Of: func(e *Enclave) any { return &e.Credentials.SecretAccessKey }, Required: true, FileOnly: true, More: "Its secret."},
	{Name: "credentials.session_token", Of: func(e *Enclave) any { return &e.Credentials.SessionToken }, FileOnly: true, More: "Of credentials that expire."},
}

// Enclaves returns the enclaves of a config, by name.
func Enclaves(c *config.Config) map[string]Enclave { return enclaves.Of(c) }

// Fill implements [config.Section].
func (e *Enclave) Fill(written func(key string) bool) { options.Fill(e, written) }

// Check implements [config.Section]. A zero that nobody has written is the default.
func (e *Enclave) Check(written func(key string) bool, fail func(key, wrong string)) {
	options.Check(e, written, fail)
	// 0 to 3 are the hypervisor, loopback, the host, and an enclave's parent.
	if written("cid") && (e.CID < 4 || e.CID == math.MaxUint32) {
		fail("cid", "is not from 4 to 4294967294")
	}
	if written("memory_mib") && (e.MemoryMiB < MinMemoryMiB || e.MemoryMiB > 1<<20) {
		fail("memory_mib", fmt.Sprintf("is not from %d to %d", MinMemoryMiB, 1<<20))
	}
	if e.CPUCount < 1 || e.CPUCount > 256 {
		fail("cpu_count", "is not from 1 to 256")
	}
}

// Secret implements [config.Section].
func (e *Enclave) Secret() (key string, secret bool) { return options.Secret(e) }

// Render implements [config.Section].
func (e *Enclave) Render(w *config.Lines) { options.Render(e, w) }

// enclaveFlags say which enclave a command works with.
type enclaveFlags struct {
	enclavecommand.Choice[Enclave, *Enclave]
	region, kmsKey string
}

// defaultEnclave is the name of the only enclave of most instances.
const defaultEnclave = enclavecommand.DefaultName

var enclaves = enclavecommand.Enclaves[Enclave, *Enclave]{
	Table: table, Flag: "enclave", Options: options,
	Required: func(e *Enclave) string {
		if e.EIF == "" {
			return "--eif FILE is missing: the image that `privyseal nitro build` wrote"
		}
		return ""
	},
}

// Add implements [enclavecommand.Flags].
func (f *enclaveFlags) Add(cmd *cobra.Command) {
	enclaves.Add(cmd, &f.Choice)
	fl := cmd.Flags()
	fl.StringVar(&f.region, "region", "", "AWS region (default: that of the KMS key)")
	fl.StringVar(&f.kmsKey, "kms-key", "", "ARN of the KMS key, which the image's policy has to name")
}

// whole finds what is wrong with several enclaves or chains together.
func whole(c *config.Config, fail func(text string, place ...any)) {
	apart(c, fail)
	enclavechain.Whole(table)(c, fail)
}

// apart checks that no two enclaves are in each other's way.
func apart(c *config.Config, fail func(text string, place ...any)) {
	used, enclaves := map[string]string{}, Enclaves(c)
	for _, name := range slices.Sorted(maps.Keys(enclaves)) {
		e := enclaves[name]
		place := "AF_VSOCK, whose ports they would share; one enclave signs for any number of chains"
		if e.Transport != "" {
			if e.CID == 0 {
				continue
			}
			place = fmt.Sprintf("CID %d in %s", e.CID, c.Path(e.Transport))
		}
		if other, taken := used[place]; taken {
			fail(fmt.Sprintf("enclave %s: it and enclave %s both have %s", name, other, place), table, name)
		}
		used[place] = name
	}
}
