package nitrohost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"strings"
)

// errTaken says that an enclave that is not ours has our name or CID.
var errTaken = errors.New("the enclave name or CID is taken")

// LaunchError is why nitro-cli did not do what it was asked.
type LaunchError struct {
	Command string // of nitro-cli
	Code    string // its own, as "E27", or empty
	Detail  string // what it said, or empty
	Cure    string // what to do next
	Err     error
}

func (e *LaunchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "nitro-cli %s failed: %v", e.Command, e.Err)
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	if e.Cure != "" {
		fmt.Fprintf(&b, "; %s", e.Cure)
	}
	return b.String()
}

func (e *LaunchError) Unwrap() error { return e.Err }

// errorCode is how nitro-cli marks its errors. The first is the cause: the later
// ones say that its own parts could not reach each other after it.
var errorCode = regexp.MustCompile(`\[ (E[0-9]{2}) \] ([^\n]*)(?:\n(File: [^\n]*))?`)

// explain makes an error of what nitro-cli said, with the cure where we know one.
func (l *Launcher) explain(command string, err error, stderr string) error {
	e := &LaunchError{Command: command, Err: err, Detail: strings.TrimSpace(stderr)}
	if m := errorCode.FindStringSubmatch(stderr); m != nil {
		e.Code, e.Detail = m[1], strings.TrimSpace(m[1]+": "+m[2]+" "+m[3])
	}
	if len(e.Detail) > 600 {
		e.Detail = strings.ToValidUTF8(e.Detail[:600], "") + "…"
	}
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		e.Cure = "install it (on Amazon Linux: `dnf install aws-nitro-enclaves-cli`) or name its path with `nitro_cli` in the config"
	case errors.Is(err, fs.ErrPermission):
		e.Cure = "make it executable for this user"
	case errors.Is(err, context.DeadlineExceeded):
		e.Cure = "look at /var/log/nitro_enclaves/nitro_enclaves.log"
	default:
		e.Cure = l.cure(e.Code, e.Detail)
	}
	if e.Cure == "" && e.Detail == "" {
		e.Cure = fmt.Sprintf("it did not say why: type `%s %s` as this user, and look at /var/log/nitro_enclaves/nitro_enclaves.log", l.Path, command)
	} else if e.Cure == "" {
		e.Cure = "look at /var/log/nitro_enclaves/nitro_enclaves.log"
	}
	return e
}

// cure returns the next step after an error code of nitro-cli
// (src/common/document_errors.rs in aws/aws-nitro-enclaves-cli).
func (l *Launcher) cure(code, detail string) string {
	const allocator = "in /etc/nitro_enclaves/allocator.yaml and type `systemctl restart nitro-enclaves-allocator`"
	switch code {
	case "E07", "E18":
		return "add this user to the group ne: `usermod -aG ne USER`"
	case "E19":
		switch {
		case strings.Contains(detail, "/dev/nitro_enclaves"):
			return "launch the instance with enclaves enabled, and add this user to the group ne: `usermod -aG ne USER`"
		case strings.Contains(detail, "ne_cpus"):
			return "type `systemctl enable --now nitro-enclaves-allocator`, on an instance that was launched with enclaves enabled"
		}
		return "this user has to be able to read " + l.EIF + " and to write to /var/log/nitro_enclaves"
	case "E21", "E22":
		return fmt.Sprintf("raise cpu_count to %d or more %s", l.CPUs, allocator)
	case "E26":
		return "raise `memory_mib` of the enclave in the config: it has to be four times the image"
	case "E27", "E31", "E35":
		return fmt.Sprintf("raise memory_mib to %d or more %s", l.MemoryMiB, allocator)
	case "E29", "E33":
		if l.CID != 0 {
			return fmt.Sprintf("CID %d may belong to an enclave of another user: give another `cid` in the config, or none", l.CID)
		}
		return "look at /var/log/nitro_enclaves for what the driver refused"
	case "E36":
		return "the image did not come up: is its signing certificate still valid? `privyseal nitro measure` says so, and `privyseal nitro run --debug` with `privyseal nitro console` shows it booting"
	}
	return ""
}
