package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"privyseal/internal/cure"
	"privyseal/internal/shell"
)

// Enclave is what an installation says of its enclave, as far as ours has a
// place for it. A setting that it does not have is 0.
type Enclave struct {
	// File is where the settings are from besides the installation's own config;
	// "" if there is none.
	File string

	CID       uint32 // context id, 4 or above
	MemoryMiB int    // 64 to 2^20
	CPUCount  int    // 1 to 256

	// Warnings say what could not be taken over, and what to look at.
	Warnings []string

	configCID uint32 // of tmkms.toml
	region    string
}

// lightEnclave is the enclave.toml of tmkms-light
// (providers/nitro/nitro-helper/src/config.rs), whose unknown keys it allows.
type lightEnclave struct {
	Proxy struct {
		Workers    any    `toml:"num_workers"`
		LocalPort  any    `toml:"local_port"`
		RemotePort int64  `toml:"remote_port"`
		RemoteAddr string `toml:"remote_addr"`
		ConfigFile any    `toml:"config_file"`
	} `toml:"vsock_proxy"`
	Enclave struct {
		EIF       string `toml:"eif_path"`
		CID       int64  `toml:"enclave_cid"`
		MemoryMiB int64  `toml:"memory_mib"`
		CPUCount  int64  `toml:"cpu_count"`
		LogPort   any    `toml:"log_server_port"`
	} `toml:"enclave"`
}

// ReadEnclave reads the enclave.toml at path, in place of the one beside
// tmkms.toml. It is for installations with an Enclave only.
func (in *Installation) ReadEnclave(path string) error {
	if in.Enclave == nil {
		return errors.New("the old signer has no enclave")
	}
	var cfg lightEnclave
	var notes Installation
	if err := notes.decodeTOML(path, &cfg); err != nil {
		return fmt.Errorf("cannot read the settings of the old enclave: %w", err)
	}
	e := &Enclave{File: path, Warnings: notes.Warnings, configCID: in.Enclave.configCID, region: in.Enclave.region}
	e.takeCID(cfg.Enclave.CID)
	e.MemoryMiB = e.within(cfg.Enclave.MemoryMiB, "memory_mib", 64, 1<<20)
	e.CPUCount = e.within(cfg.Enclave.CPUCount, "cpu_count", 1, 256)
	if addr := cfg.Proxy.RemoteAddr; addr != "" && addr != publicKMS(e.region) {
		e.warn("its vsock-proxy led to %s; the address of KMS belongs in the measured policy now: %s", addr, cure.Command("privyseal", "nitro", "image-policy", "--endpoint", addr))
	}
	in.Enclave = e
	return nil
}

// publicKMS returns the endpoint that tmkms-light's enclave speaks to, whatever
// its proxy leads to.
func publicKMS(region string) string { return "kms." + region + ".amazonaws.com" }

// readEnclaveBeside reads the enclave.toml that `tmkms-nitro-helper init` puts
// beside tmkms.toml. Without it the installation is whole all the same.
func (in *Installation) readEnclaveBeside(cfg *lightConfig, path string) {
	in.Enclave = &Enclave{configCID: cfg.CID, region: cfg.Region}
	err := in.ReadEnclave(path)
	if err == nil {
		return
	}
	in.Enclave.takeCID(0)
	if !errors.Is(err, fs.ErrNotExist) {
		in.Enclave.warn("%v", err)
	}
}

// takeCID takes the context id that enclave.toml has, or that of tmkms.toml.
func (e *Enclave) takeCID(own int64) {
	const most = 1<<32 - 2
	e.CID = uint32(e.within(own, "enclave_cid", 4, most))
	if e.CID == 0 {
		e.CID = uint32(e.within(int64(e.configCID), "enclave_config_cid", 4, most))
	} else if e.configCID != 0 && e.configCID != e.CID {
		e.warn("enclave_cid is %d and enclave_config_cid %d; the first one is taken over", e.CID, e.configCID)
	}
}

// within returns the value of a setting, or 0 if no enclave of ours can have it.
func (e *Enclave) within(value int64, name string, least, most int64) int {
	if value == 0 || value >= least && value <= most {
		return int(value)
	}
	e.warn("%s = %d was left out: it is not from %d to %d", name, value, least, most)
	return 0
}

func (e *Enclave) warn(format string, args ...any) {
	e.Warnings = append(e.Warnings, shell.Line(fmt.Sprintf(format, args...)))
}

// String returns the settings as they stand in privyseal.toml.
func (e *Enclave) String() string {
	var has []string
	add := func(key string, value int) {
		if value != 0 {
			has = append(has, fmt.Sprintf("%s = %d", key, value))
		}
	}
	add("cid", int(e.CID))
	add("memory_mib", e.MemoryMiB)
	add("cpu_count", e.CPUCount)
	if has == nil {
		return "nothing"
	}
	return strings.Join(has, ", ")
}
