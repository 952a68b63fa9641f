package yubihsm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// listed is a device as it is printed.
type listed struct {
	Address  string       `json:"address"`
	Table    string       `json:"yubihsm,omitempty"`
	Serial   string       `json:"serial"`
	Firmware string       `json:"firmware"`
	AuthKey  uint16       `json:"auth_key"`
	Objects  []listedItem `json:"objects"`
}

// listedItem is an object of it. Public keys of other kinds than chains have are left out.
type listedItem struct {
	ID           uint16          `json:"id"`
	Type         string          `json:"type"`
	Algorithm    string          `json:"algorithm"`
	Label        string          `json:"label"`
	Domains      []int           `json:"domains"`
	Capabilities []string        `json:"capabilities"`
	Delegated    []string        `json:"delegated_capabilities,omitempty"`
	PublicKey    json.RawMessage `json:"public_key,omitempty"`
	Chains       []string        `json:"chains,omitempty"`

	object hsm.ObjectInfo
	public pubkey.Key
}

func newListCommand(a *provider.House) *cobra.Command {
	where, asJSON := &reach.Signer{}, false
	cmd := &cobra.Command{
		Use:   "list [--yubihsm NAME | --device ADDRESS --auth-key N --password-file FILE]",
		Short: "List the objects of devices, and which chain signs with which key",
		Long: `List the objects of each device of the config, or of --device: those that share a
domain with the authentication key. Nothing is changed. A chain stands beside a key only if
the device has the public key that the chain expects.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			places, err := where.Places(a.App)
			if err != nil {
				return err
			}
			devices, err := list(cmd.Context(), places)
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return errors.Join(encoder.Encode(devices), err)
			}
			for _, d := range devices {
				d.print(cmd.OutOrStdout())
			}
			return err
		},
	}
	where.Add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// list looks at all devices, and returns those that answer beside why others do not.
func list(ctx context.Context, places []reach.Place) ([]listed, error) {
	devices, failed := []listed{}, []error{}
	for _, p := range places {
		for _, address := range p.Devices {
			d := listed{Address: address, Table: p.Table, AuthKey: p.Login.ID, Objects: []listedItem{}}
			if err := p.Login.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error { return d.read(ctx, s, p) }); err != nil {
				failed = append(failed, err)
				continue
			}
			devices = append(devices, d)
		}
	}
	return devices, errors.Join(failed...)
}

// read asks a device for its objects.
func (d *listed) read(ctx context.Context, s *hsm.Session, p reach.Place) error {
	fail := func(err error) error { return fmt.Errorf("cannot list the YubiHSM at %s: %w", d.Address, err) }
	info, err := s.DeviceInfo(ctx)
	if err != nil {
		return fail(err)
	}
	d.Serial, d.Firmware = fmt.Sprintf("%010d", info.Serial), fmt.Sprintf("%d.%d.%d", info.Version[0], info.Version[1], info.Version[2])
	entries, err := s.ListObjects(ctx, hsm.Filter{})
	if err != nil {
		return fail(err)
	}
	slices.SortFunc(entries, func(a, b hsm.Entry) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID))
	})
	for _, e := range entries {
		item, err := itemOf(ctx, s, e)
		if err != nil {
			return fail(err)
		}
		item.Chains = signsWith(p, item.ID, item.public)
		d.Objects = append(d.Objects, item)
	}
	return nil
}

// itemOf asks for one object, and for the public key of one that a chain may have.
func itemOf(ctx context.Context, s *hsm.Session, e hsm.Entry) (listedItem, error) {
	o, err := s.ObjectInfo(ctx, e.Type, e.ID)
	if err != nil {
		return listedItem{}, err
	}
	item := listedItem{ID: o.ID, Type: o.Type.String(), Algorithm: o.Algorithm.String(), Label: o.Label,
		Domains: numbers(o.Domains), Capabilities: names(o.Capabilities), Delegated: names(o.Delegated), object: o}
	if o.Type != hsm.TypeAsymmetricKey || o.Algorithm != hsm.Ed25519 && o.Algorithm != hsm.K256 {
		return item, nil
	}
	there, err := s.PublicKey(ctx, o.ID)
	if err == nil {
		item.public, err = yubihsm.PublicOf(there)
	}
	if err != nil {
		return listedItem{}, err
	}
	item.PublicKey = json.RawMessage(item.public.JSON())
	return item, nil
}

// numbers are those of domains, 1 to 16.
func numbers(d hsm.Domains) []int {
	list := []int{}
	for n := 1; n <= 16; n++ {
		if d&hsm.Domain(n) != 0 {
			list = append(list, n)
		}
	}
	return list
}

// names are those of capabilities.
func names(c hsm.Capabilities) []string {
	if c == 0 {
		return []string{}
	}
	return strings.Split(c.String(), ",")
}

// signsWith returns the chains that expect a key under an id.
func signsWith(p reach.Place, id uint16, public pubkey.Key) (names []string) {
	for _, ch := range p.Chains() {
		// What is wrong with the file `privyseal check` says.
		if r, err := yubihsm.ReadReference(p.Config.Path(ch.Key)); err == nil && r.ID == id && r.Public.Equal(public) {
			names = append(names, ch.Name)
		}
	}
	return names
}

// print prints a device and its objects. What an object's label has is anybody's.
func (d listed) print(w io.Writer) {
	fmt.Fprintf(w, "%s: YubiHSM %s, firmware %s, as authentication key 0x%04x%s\n", d.Address, d.Serial, d.Firmware, d.AuthKey, cli.Prefixed(" of yubihsm ", d.Table))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tTYPE\tALGORITHM\tLABEL\tDOMAINS\tCHAIN\tPUBLIC KEY\tCAPABILITIES")
	for _, o := range d.Objects {
		public := "-"
		if !o.public.IsZero() {
			public = o.public.Base64()
		}
		domains := strings.Replace(o.object.Domains.String(), hsm.AllDomains.String(), "all", 1)
		can := cmp.Or(o.object.Capabilities.String(), "-")
		if o.object.Capabilities.Has(hsm.AllCapabilities) {
			can = "all" // in place of 1,200 letters, as of the administrator
		}
		fmt.Fprintf(t, "0x%04x\t%s\t%s\t%q\t%s\t%s\t%s\t%s\n", o.ID, o.Type, o.Algorithm, o.Label, domains,
			cmp.Or(strings.Join(o.Chains, ","), "-"), public, can)
	}
	t.Flush()
}
