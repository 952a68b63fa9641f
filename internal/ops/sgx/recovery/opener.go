package recovery

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/key/sgxseal"
)

// maxBackup bounds a backup, which comes from the host.
const maxBackup = 32 << 10

func readBackup(path string) (file []byte, b sgxseal.Backup, err error) {
	if file, err = cli.ReadBounded(path, maxBackup); err != nil {
		return nil, b, err
	}
	if b, err = sgxseal.InspectBackup(file); err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return file, b, err
}

// opener is what opens the key of a backup: the recovery key, or what the HSM with it has
// decrypted. Both are files.
type opener struct{ recovery, kek string }

func (o *opener) add(fl *pflag.FlagSet) {
	fl.StringVar(&o.recovery, "recovery-key", "", "file of the recovery key: of \"privyseal sgx recovery-key\", or an RSA key in PEM")
	fl.StringVar(&o.kek, "kek", "", "file of what the HSM has decrypted, in place of the recovery key")
}

func (o *opener) check() error {
	if o.recovery != "" && o.kek != "" {
		return cli.Usagef("--recovery-key and --kek do not go together")
	}
	return nil
}

// warn says where a recovery key is in bad company; elsewhere is what to do on another machine.
func (o *opener) warn(w io.Writer, elsewhere string) {
	if why := nearEnclaves(o.recovery, sgxDevice); o.recovery != "" && why != "" {
		fmt.Fprintf(w, "warning: %s: whoever takes over this machine has the backups and %s, and so the validator's keys; %s on another one\n", why, o.recovery, elsewhere)
	}
}

// key returns the key of a backup.
func (o *opener) key(file []byte) ([]byte, error) {
	if o.kek != "" {
		kek, err := readKEK(o.kek)
		if err != nil {
			return nil, err
		}
		defer clear(kek)
		return sgxseal.KeyUnder(file, kek)
	}
	recovery, err := readKey(o.recovery)
	if err != nil {
		return nil, err
	}
	return recovery.Key(file)
}
