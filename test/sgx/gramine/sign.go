//go:build linux

package main

import (
	"flag"
	"os"
	"strings"

	"privyseal/internal/sgx/sgxtest"
	"privyseal/test/sgx/rig"
)

// sign is python/gramine-sgx-sign.
func sign(m *rig.Machine, args []string) int {
	f := flag.NewFlagSet("gramine-sgx-sign", flag.ExitOnError)
	key, manifest, output, sigfile := m.SignerKey(), "", "", ""
	for _, name := range []string{"m", "manifest"} {
		f.StringVar(&manifest, name, "", "")
	}
	for _, name := range []string{"o", "output"} {
		f.StringVar(&output, name, "", "")
	}
	for _, name := range []string{"s", "sigfile"} {
		f.StringVar(&sigfile, name, "", "")
	}
	for _, name := range []string{"k", "key"} {
		f.StringVar(&key, name, key, "") // in place of ~/.config/gramine/enclave-key.pem
	}
	for _, name := range []string{"d", "date"} {
		f.String(name, "", "") // ours have no day
	}
	f.Bool("quiet", false, "")
	f.Parse(args)
	if manifest == "" || output == "" {
		say("Usage: gramine-sgx-sign [OPTIONS] [PLUGIN_ARGS]...\n\nError: Missing option '--manifest' or '--output'.")
		return 2
	}
	if sigfile == "" {
		sigfile = strings.TrimSuffix(output, ".manifest.sgx") + ".sig"
	}
	if err := signFiles(manifest, output, sigfile, key); err != nil {
		say("Error: %v", err)
		return 1
	}
	return 0
}

func signFiles(manifest, output, sigfile, key string) error {
	pem, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	signer, err := sgxtest.ParseSigner(pem)
	if err != nil {
		return err
	}
	template, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	signed, signature, err := rig.Sign(template, ".", signer)
	if err != nil {
		return err
	}
	if err := os.WriteFile(output, signed, 0o644); err != nil {
		return err
	}
	return os.WriteFile(sigfile, signature, 0o644)
}
