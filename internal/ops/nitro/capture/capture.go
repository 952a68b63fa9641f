// Package capture records what an instance with enclaves says: nitro-cli, the system, and
// the security module and KMS by way of the enclave that runs. It launches and ends no enclave,
// and what it writes holds no secret. Tests play nitro-cli and KMS by such a record.
//
// What an enclave hands out of KMS's answers, its own code decides; that there is no credential
// in it is looked at here once more.
package capture

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/durable"
	"privyseal/internal/hostlink"
	"privyseal/internal/monitor"
	"privyseal/internal/nitrohost"
	"privyseal/internal/provider"
)

// maxFact bounds a file of the system in bytes.
const maxFact = 256 << 10

// calls are those of nitro-cli, each by the name of its files. None of them changes
// anything: the id is nobody's, and the image is not there.
var calls = []struct{ name, args string }{
	{"version", "--version"},
	{"describe", "describe-enclaves"},
	{"describe-metadata", "describe-enclaves --metadata"},
	{"terminate-nobody", "terminate-enclave --enclave-id i-0-enc0"},
	{"console-nobody", "console --enclave-id i-0-enc0"},
	{"run-nothing", "run-enclave --eif-path /nothing --memory 64 --cpu-count 2 --enclave-name privyseal-capture"},
}

// facts are files of the system.
var facts = []string{
	"/proc/version", "/proc/cpuinfo", "/proc/meminfo", "/etc/os-release", "/etc/nitro_enclaves/allocator.yaml",
	"/sys/devices/virtual/dmi/id/product_name", "/sys/module/nitro_enclaves/parameters/ne_cpus",
	"/sys/devices/system/clocksource/clocksource0/current_clocksource",
}

// Entry is one line of the manifest.
type Entry struct {
	// Of is what the files are of: a command, a path, or a chain's attestation.
	Of     string
	Status int      `json:",omitempty"` // of a command
	Files  []string `json:",omitempty"`
	Hashes []string `json:",omitempty"` // SHA-256 of each
	// Missing is why there are none.
	Missing string `json:",omitempty"`
	// Refused is why the enclave did not take this answer of KMS.
	Refused string `json:",omitempty"`
}

// record is one that is being made.
type record struct {
	dir     string
	entries []Entry
}

// maxAnswers bounds how many answers of KMS are recorded.
const maxAnswers = 16

// NewCommand returns `privyseal nitro capture`; path returns nitro-cli's path by a config, and
// sample has the enclave that runs ask KMS.
func NewCommand(a *provider.House, path func() (string, error), sample func(context.Context) ([]hostlink.KMSAnswer, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "capture DIR",
		Short: "Record what nitro-cli, KMS and this instance say, for tests elsewhere",
		Long: `Record into the new folder DIR what nitro-cli says (version, enclaves, errors), facts of
the system, an attestation of each chain that a running "privyseal start" signs for, and
what KMS answers to the enclave that runs: to a GenerateDataKey, whose key encrypts
nothing and is dropped, to a Decrypt of that, and to three that it has to refuse. An alarm
on the KMS key rings. What is missing is in manifest.json, with the reason.

It launches and ends nothing. The folder holds no secret; it names the AWS account, the
role and the instance. Send it to who asked for it.`,
		Example: `  privyseal nitro capture before
  privyseal nitro capture before --eif privyseal.eif   # where no chain is in the config yet`,
		Args: cli.Arguments("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			nitroCLI, err := path()
			if err != nil {
				return err
			}
			r, err := newRecord(args[0])
			if err != nil {
				return err
			}
			err = r.all(cmd.Context(), &nitrohost.Launcher{Path: nitroCLI})
			if err == nil {
				err = r.attest(cmd.Context(), a)
			}
			if err == nil {
				err = r.answers(sample(cmd.Context()))
			}
			if err == nil {
				err = r.close()
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d records are in %s; manifest.json says of what\n", len(r.entries), args[0])
			return err
		},
	}
}

// newRecord makes the folder, which must not be there.
func newRecord(dir string) (*record, error) {
	if _, err := os.Lstat(dir); err == nil {
		return nil, cli.Usagef("%s exists; name a new folder", dir)
	}
	made, err := durable.Folders(dir)
	if err == nil && len(made) == 0 {
		err = cli.Usagef("%s exists; name a new folder", dir)
	}
	return &record{dir: dir}, err
}

// all records nitro-cli and the system.
func (r *record) all(ctx context.Context, l *nitrohost.Launcher) error {
	for _, c := range calls {
		e := Entry{Of: "nitro-cli " + c.args}
		said, err := l.Record(ctx, strings.Fields(c.args)...)
		if err != nil {
			e.Missing = clean([]byte(err.Error()))
		} else {
			e.Status = said.Status
			for _, out := range []struct {
				end  string
				text []byte
			}{{".out", said.Stdout}, {".err", said.Stderr}} {
				if err := r.file(&e, c.name+out.end, clean(out.text)); err != nil {
					return err
				}
			}
		}
		r.entries = append(r.entries, e)
	}
	for _, path := range facts {
		e := Entry{Of: path}
		text, err := readSome(path)
		if err != nil {
			e.Missing = err.Error()
		} else if err := r.file(&e, "system-"+filepath.Base(path), clean(text)); err != nil {
			return err
		}
		r.entries = append(r.entries, e)
	}
	return nil
}

// attest records a document of the security module for each chain.
func (r *record) attest(ctx context.Context, a *provider.House) error {
	c, err := a.ExistingConfig()
	if err != nil || c == nil {
		return err
	}
	home, err := a.Home()
	if err != nil {
		return err
	}
	for i, ch := range c.Chains {
		e := Entry{Of: "attestation of " + ch.ID}
		nonce := make([]byte, 32)
		rand.Read(nonce)
		doc, err := monitor.ReadAttestation(ctx, home, ch.ID, nonce)
		if err != nil {
			e.Missing = err.Error()
		} else if err := r.file(&e, fmt.Sprintf("attestation-%d.b64", i), base64.StdEncoding.EncodeToString(doc)+"\n"); err != nil {
			return err
		}
		r.entries = append(r.entries, e)
	}
	return nil
}

// answers records what KMS said to the enclave, or why nobody asked.
func (r *record) answers(list []hostlink.KMSAnswer, failed error) error {
	if failed == nil && len(list) == 0 {
		failed = errors.New("the enclave has none")
	}
	if failed != nil {
		r.entries = append(r.entries, Entry{Of: "KMS", Missing: clean([]byte(failed.Error()))})
		return nil
	}
	for i, a := range list[:min(len(list), maxAnswers)] {
		e := Entry{Of: "KMS " + clean([]byte(a.Call)), Refused: clean([]byte(a.Error))}
		if len(a.Raw) == 0 {
			e.Missing = "there was no answer, or something in it may be secret"
		} else if err := r.file(&e, fmt.Sprintf("kms-%d.http", i), clean(a.Raw)); err != nil {
			return err
		}
		r.entries = append(r.entries, e)
	}
	return nil
}

func (r *record) file(e *Entry, name, text string) error {
	sum := sha256.Sum256([]byte(text))
	e.Files, e.Hashes = append(e.Files, name), append(e.Hashes, hex.EncodeToString(sum[:]))
	return durable.Create(filepath.Join(r.dir, name), []byte(text), 0o600)
}

// close writes the manifest, without which a record is none.
func (r *record) close() error {
	text, err := json.MarshalIndent(struct {
		Made    string
		Entries []Entry
	}{time.Now().UTC().Format(time.RFC3339), r.entries}, "", "  ")
	if err != nil {
		return err
	}
	return durable.Create(filepath.Join(r.dir, "manifest.json"), append(text, '\n'), 0o600)
}

func readSome(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFact))
}

// secrets are what AWS's credentials look like, though nothing that is recorded should
// have any.
var secrets = regexp.MustCompile(`\b(AKIA|ASIA)[A-Z0-9]{12,}\b|(?i)(secret_?access_?key|session_?token)\W+\S+`)

func clean(text []byte) string { return secrets.ReplaceAllString(string(text), "[left out]") }
