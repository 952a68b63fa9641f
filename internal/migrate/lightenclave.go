package migrate

import (
	"errors"
	"fmt"
	"strings"

	"privyseal/internal/cure"
	"privyseal/internal/shell"
)

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
	if err := notes.decodeTOML(path, &cfg, ""); err != nil {
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
