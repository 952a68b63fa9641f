package sgxhost

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"strings"

	"privyseal/internal/cure"
)

// unstarted explains why there is no process.
func unstarted(gramine, folder string, err error) error {
	if missing := Missing(folder); missing != nil {
		return missing
	}
	err = fmt.Errorf("cannot run %s: %w", gramine, err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return cure.Add(err, "install Gramine 1.9, or name the path of gramine-sgx with `gramine_sgx` in the config")
	}
	return err
}

// causes are the lines of Gramine 1.9 that say why an enclave ended, and what to do about it. The
// first that fits counts. Sources: pal/src/host/linux-sgx/{host_framework,host_platform,host_main,
// enclave_ocalls}.c, libos/src/fs/libos_fs.c.
var causes = []struct{ line, next string }{
	{`Cannot open /dev/sgx.* \(Permission denied`, "add this user to the group of the device, usually: `usermod -aG sgx USER`"},
	{`Cannot open /dev/sgx`, "switch SGX on in the firmware and boot Linux 5.11 or later: `ls /dev/sgx_enclave` shows the device then"},
	{`Cannot connect to AESM service`, "start Intel's AESM service, with its quoting enclave for DCAP: `systemctl start aesmd`"},
	{`AESM service returned`, "look at `journalctl -u aesmd`: the platform has to be registered, and its PCCS be reached"},
	{`Allocation of EPC memory failed|add-pages IOCTL failed|Adding pages .* to enclave failed|Cannot allocate memory|\(ENOMEM\)`, "the enclave needs 2 GiB of EPC, or swap to back it: end other enclaves, or raise the size of PRMRR in the firmware"},
	{`Permission denied on mapping enclave`, "mount /dev so that programs in it may be executed: `mount -o remount,exec /dev`"},
	{`Enclave initialization IOCTL failed|Initializing enclave failed`, "the signature is not of this enclave, or Gramine is not the version that it was signed with: sign it again"},
	{`Mounting "file:.* failed|Operation not permitted \(EPERM\)`, "program or policy are not those that were signed: put them back, or make the manifest again with `privyseal sgx manifest` and sign it"},
	{`OCALL_GETTIME returned time value smaller`, "this host's clock was set back, which ends an enclave: have it slewed, and never stepped"},
	{`requires (support for|.* CPU instruction)`, "this CPU or kernel is not supported by Gramine 1.9"},
	{`does not exist|No such file or directory|\(ENOENT\)`, ""}, // whose file is missing, Missing says
}

// explain says why a process ended that ran the enclave in a folder, by what it has printed.
func explain(folder string, printed *lines, err error) error {
	gramine, program := printed.printed("gramine"), printed.printed("program")
	status := "exit status 0"
	if err != nil {
		status = err.Error()
	}
	for _, c := range causes {
		pattern := regexp.MustCompile(c.line)
		for _, text := range gramine {
			if !pattern.MatchString(text) {
				continue
			}
			why := fmt.Errorf("the enclave ended (%s): %s", status, text)
			if c.next != "" {
				return cure.Add(why, "%s", c.next)
			}
			return cmp.Or(Missing(folder), why)
		}
	}
	// The program says itself why it gives up.
	last := append(gramine, program...)
	if len(last) == 0 {
		return fmt.Errorf("the enclave ended without a word (%s)", status)
	}
	return fmt.Errorf("the enclave ended (%s): %s", status, strings.TrimPrefix(last[len(last)-1], ProgramFile+": "))
}
