package yubihsm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/verify"
	"privyseal/internal/provider"
	"privyseal/internal/regular"
	"privyseal/internal/shell"
	"privyseal/internal/yubico"
)

// attestationOf returns where the attestation of a key is, by the path of the file that names
// the key.
func attestationOf(key string) string {
	return strings.TrimSuffix(key, filepath.Ext(key)) + ".attestation"
}

// note says which connectors are elsewhere, and what the device attests of a key that was made.
func (m *making) note(w io.Writer, path string) {
	for _, address := range m.devices {
		if reach.IsOpen(address) {
			fmt.Fprintf(w, elsewhere+"; "+elsewhereCure+"\n", address)
		}
	}
	if m.unattested != "" {
		fmt.Fprintf(w, "no attestation of the key was saved: %s\n", m.unattested)
	}
	if m.attestation == nil {
		return
	}
	p, err := proofOf(m.attestation, yubico.Anchor{}, m.key)
	if err != nil {
		failed, next := cure.Split(err.Error())
		fmt.Fprintf(w, "%s does not verify: %s%s\n", path, failed, cli.Prefixed("; ", next))
		return
	}
	fmt.Fprintf(w, "%s: %s; %s checks it anywhere\n", path, p.Summary(), cure.Command("privyseal", "verify", path))
}

// proofOf verifies the attestation in a file, and refuses that of another key: a device that is
// fake can have the one of a real device.
func proofOf(text []byte, root yubico.Anchor, key yubihsm.Reference) (*verify.Proof, error) {
	p, err := verify.OfFile(text, root, time.Now())
	if err == nil && (p.ID != key.ID || !p.Key.Equal(key.Public)) {
		err = fmt.Errorf("it is of another key: 0x%04x, %v", p.ID, p.Key)
	}
	return p, err
}

// maxAttestation bounds a file with an attestation in bytes.
const maxAttestation = 1 << 16

// attested adds the row of the attestation that lies beside a chain's key, if there is one.
func (h *Holder) attested(r *provider.Report, ch config.Chain, line int) {
	key, err := yubihsm.ReadReference(r.Config.Path(ch.Key))
	if err != nil {
		return // the row of the key says so
	}
	path := attestationOf(r.Config.Path(ch.Key))
	text, _, err := regular.Read(path, maxAttestation)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var p *verify.Proof
	if err == nil {
		p, err = proofOf(text, h.root, key)
	}
	if err != nil {
		failed, next := cure.Split(err.Error())
		if next == "" {
			next = fmt.Sprintf("move the file away, and have the device attest the key again: `privyseal yubihsm attest --key-id 0x%04x --out %s …`", key.ID, shell.Word(path))
		}
		r.Add(provider.Unsure, line, reach.Table, fmt.Sprintf("%s proves nothing about the key: %s", path, failed), next)
		return
	}
	r.Add(provider.Good, line, reach.Table, fmt.Sprintf("%s, until %s", p.Summary(), p.Until.UTC().Format(time.DateOnly)), "")
}
