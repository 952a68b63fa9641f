package verify

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/yubico"
	hsm "privyseal/yubihsm"
)

// Proof is an attestation that is genuine.
type Proof struct {
	*yubico.Attestation
	// Key is the public key; zero of one that no validator has.
	Key    pubkey.Key
	anchor yubico.Anchor
}

// Of verifies what a device attests about a key, at a time.
func Of(e yubico.Evidence, anchor yubico.Anchor, at time.Time) (*Proof, error) {
	a, err := e.Verify(anchor, at)
	if err != nil {
		return nil, err
	}
	p := &Proof{Attestation: a, anchor: anchor}
	if a.KeyType != "" {
		p.Key, err = pubkey.New(pubkey.Type(a.KeyType), a.Public)
	}
	return p, err
}

// Device names the device.
func (p *Proof) Device() string {
	return fmt.Sprintf("YubiHSM %010d, firmware %d.%d.%d", p.Serial, p.Firmware[0], p.Firmware[1], p.Firmware[2])
}

// From says how the key came into the device.
func (p *Proof) From() string {
	switch hsm.Origin(p.Origin) {
	case hsm.Generated:
		return "made in this device"
	case hsm.Imported:
		return "imported in plain text"
	case hsm.Generated | hsm.ImportedWrapped:
		return "made in a YubiHSM, and brought here under a wrap key"
	case hsm.Imported | hsm.ImportedWrapped:
		return "imported in plain text into a YubiHSM, and brought here under a wrap key"
	}
	return fmt.Sprintf("unknown, 0x%02x", p.Origin)
}

// Copies says why others may have the key, one reason each: none where it was made in this
// device and cannot leave it.
func (p *Proof) Copies() (reasons []string) {
	if !p.Generated() {
		reasons = append(reasons, "it was not made in this device ("+p.From()+"): copies may exist")
	}
	if p.Exportable() {
		reasons = append(reasons, "it can be exported under a wrap key: copies may exist")
	}
	return reasons
}

// leak is Yubico's advisory YSA-2024-03, of 2024-09-03: the time that an ECDSA signature
// takes shows in the radiation of the chip.
const leak = "firmware before 2.4.0 lets an ECDSA key be measured in the laboratory (CVE-2024-45678)"

// leaks reports whether the key can be measured, as far as the firmware said when it made
// the attestation. Firmware of a YubiHSM is not updated.
func (p *Proof) leaks() bool {
	return p.KeyType == string(pubkey.Secp256k1) && slices.Compare(p.Firmware[:], []byte{2, 4, 0}) < 0
}

// Summary says in one line what is proven.
func (p *Proof) Summary() string {
	leaves := "it cannot leave it"
	if p.Exportable() {
		leaves = "it can leave it under a wrap key"
	}
	return fmt.Sprintf("%s attests key 0x%04x: %s, and %s", p.Device(), p.ID, p.From(), leaves)
}

// notYubico warns of a root that is not Yubico's.
func notYubico(a yubico.Anchor) string {
	return fmt.Sprintf("NOT YUBICO: --root names a root of your own, %s.\nWhoever holds its key can attest anything. This is for tests; it proves nothing about a real device.", a.Fingerprint())
}

// Report prints what the attestation proves, and what it does not. named says that somebody
// has said which key is expected.
func (p *Proof) Report(w io.Writer, named bool) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	whose := "Yubico's root"
	if !p.anchor.IsYubico() {
		whose = "that root"
		line("%s\n", notYubico(p.anchor))
	}
	line("the attestation is genuine: the certificates of %s, lead to %s", p.Device(), whose)
	kind := p.KeyType
	if kind == "" {
		kind = "of a kind that no validator has"
	}
	line("key          0x%04x, %s, label %q, domains %v", p.ID, kind, p.Label, hsm.Domains(p.Domains))
	line("capabilities %v", hsm.Capabilities(p.Capabilities))
	line("origin       %s", p.From())
	line("valid until  %s", p.Until.UTC().Format(time.DateOnly))
	if !p.Key.IsZero() {
		line("public key")
		for _, format := range keytext.Formats() {
			if text, err := (keytext.Form{Format: format}).Text(p.Key); err == nil {
				line("  %-11s %s", format, text)
			}
		}
	}
	line("\nit proves:")
	for _, text := range p.proves() {
		line("  + %s", text)
	}
	line("it does not prove:")
	for _, text := range p.provesNot(named) {
		line("  - %s", text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// proves returns what follows from the attestation.
func (p *Proof) proves() (list []string) {
	list = []string{"the device has had this key"}
	if p.Generated() {
		list[0] = "the key was made in this device"
	}
	if !p.Exportable() {
		list = append(list, "it does not leave the device, not even encrypted: nothing adds the capability "+hsm.ExportableUnderWrap.String()+" later")
	}
	return list
}

// provesNot returns what a reader could believe all the same.
func (p *Proof) provesNot(named bool) (list []string) {
	for _, reason := range p.Copies() {
		list = append(list, "that nobody else has the key: "+reason)
	}
	if p.leaks() {
		list = append(list, "that nobody who had the device in hand has the key: "+leak)
	}
	if !named && !p.Key.IsZero() {
		list = append(list, "whose key it is: name the one that the chain has for the validator with --public-key")
	}
	return append(list,
		"that the device still has the key, and who may sign with it",
		"that nothing is signed twice: a device keeps no mark")
}
