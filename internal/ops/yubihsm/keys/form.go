package keys

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// form are the flags that say what a new object is to be.
type form struct {
	key     Key
	domains []int
	keyType pubkey.Type
}

func (f *form) add(cmd *cobra.Command, keyType string) {
	reach.AddKeyID(cmd, &f.key.ID)
	fl := cmd.Flags()
	fl.StringVar(&f.key.Label, "label", "", fmt.Sprintf("label of the object, up to %d bytes", hsm.MaxLabel))
	fl.IntSliceVar(&f.domains, "domains", []int{1}, "domains of the object, as in 1,2; the signer's authentication key has to be in one of them")
	fl.BoolVar(&f.key.Exportable, "exportable", false, "let the key leave the device under its wrap keys, as for a backup or a copy")
	cli.AddKeyType(cmd, &f.keyType, "key-type", keyType)
}

// set returns the domains of the flags, after a check of all of them.
func (f *form) set() (domains hsm.Domains, err error) {
	if err := reach.NeedKeyID(f.key.ID); err != nil {
		return 0, err
	}
	if len(f.key.Label) > hsm.MaxLabel || strings.ContainsRune(f.key.Label, 0) {
		return 0, cli.Usagef("--label has %d bytes, and a label up to %d", len(f.key.Label), hsm.MaxLabel)
	}
	for _, n := range f.domains {
		if hsm.Domain(n) == 0 {
			return 0, cli.Usagef("--domains %d is not from 1 to 16", n)
		}
		domains |= hsm.Domain(n)
	}
	return domains, nil
}

// another adds to an id that is taken that another one can be chosen.
func another(err error) error {
	if errors.Is(err, ErrTaken) {
		return cure.Add(err, "choose another --key-id")
	}
	return err
}

// in refuses domains that an authentication key is not in: nobody puts an object there.
func in(own hsm.ObjectInfo, domains hsm.Domains, address string) error {
	if missing := domains &^ own.Domains; missing != 0 {
		return cli.Actf("%s is not in domain %v, but in %v: choose others with --domains", reach.ObjectAt("authentication key", own.ID, address), missing, own.Domains)
	}
	return nil
}
