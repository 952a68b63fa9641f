package nitrohost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"slices"
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

	Tries   int      // of a launch, if more than one
	Console []string // last lines of the enclave's console, where it was read

	steps string // at which it failed, the last two; it says that from version 1.0 on
}

func (e *LaunchError) Error() string {
	var b strings.Builder
	times := ""
	if e.Tries > 1 {
		times = fmt.Sprintf(" %d times", e.Tries)
	}
	fmt.Fprintf(&b, "nitro-cli %s failed%s: %v", e.Command, times, e.Err)
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	if e.Cure != "" {
		fmt.Fprintf(&b, "; %s", e.Cure)
	}
	if len(e.Console) > 0 {
		b.WriteString("\nThe last lines of its console:")
		for _, line := range e.Console {
			b.WriteString("\n| " + line)
		}
	}
	return b.String()
}

func (e *LaunchError) Unwrap() error { return e.Err }

// errorCode is how nitro-cli marks its errors. The first is the cause: the later
// ones say that its own parts could not reach each other after it.
var errorCode = regexp.MustCompile(`\[ (E[0-9]{2}) \] ([^\n]*)(?:\n(File: [^\n]*))?`)

// subactions are the steps of a backtrace, the outermost first.
var subactions = regexp.MustCompile(`(?m)^  Subactions:\n((?:    [^\n]*\n)+)`)

// lastSteps returns what nitro-cli was doing when it failed, and why that did.
func lastSteps(stderr string) string {
	m := subactions.FindStringSubmatch(stderr)
	if m == nil {
		return ""
	}
	steps := strings.Split(strings.TrimSpace(m[1]), "\n")
	for i := range steps {
		steps[i] = strings.TrimSpace(steps[i])
	}
	return strings.Join(steps[max(0, len(steps)-2):], ": ")
}

// explain makes an error of what nitro-cli said, with the cure where we know one.
func (l *Launcher) explain(command string, err error, stderr string) error {
	e := &LaunchError{Command: command, Err: err, Detail: strings.TrimSpace(stderr)}
	if m := errorCode.FindStringSubmatch(stderr); m != nil {
		text := m[2]
		if e.steps = lastSteps(stderr); e.steps != "" {
			// The steps say what the rest of the sentence only promises.
			text, _, _ = strings.Cut(text, " Such error")
		}
		e.Code, e.Detail = m[1], strings.Join(strings.Fields(m[1]+": "+text+" "+m[3]+" "+e.steps), " ")
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
		e.Cure = lookAtLog
	default:
		e.Cure = l.cure(e)
	}
	if e.Cure == "" && e.Detail == "" {
		e.Cure = fmt.Sprintf("it did not say why: type `%s %s` as this user, and look at /var/log/nitro_enclaves/nitro_enclaves.log", l.Path, command)
	} else if e.Cure == "" {
		e.Cure = lookAtLog
	}
	return e
}

const (
	lookAtLog = "look at /var/log/nitro_enclaves/nitro_enclaves.log"
	allocator = "in /etc/nitro_enclaves/allocator.yaml and type `systemctl restart nitro-enclaves-allocator`"
)

// cure returns the next step after an error code of nitro-cli
// (src/common/document_errors.rs in aws/aws-nitro-enclaves-cli).
func (l *Launcher) cure(e *LaunchError) string {
	switch e.Code {
	case "E07":
		if dir := Sockets(); dir != "" {
			return "this user needs the folder " + dir + ", which systemd/privyseal-nitro.service makes: `install -d -m 0700 -o USER -g USER " + dir + "`"
		}
		return "add this user to the group ne: `usermod -aG ne USER`"
	case "E18":
		return "add this user to the group ne: `usermod -aG ne USER`"
	case "E19":
		return l.unopened(e.Detail)
	case "E21", "E22":
		return fmt.Sprintf("raise cpu_count to %d or more %s", l.CPUs, allocator)
	case "E26":
		return "raise `memory_mib` of the enclave in the config: it has to be four times the image"
	case "E27", "E31", "E35":
		return fmt.Sprintf("raise memory_mib to %d or more %s", l.MemoryMiB, allocator)
	case "E29", "E33":
		return l.refused(e)
	case "E36":
		if strings.Contains(e.steps, portTaken) {
			return "another enclave of this instance is being launched, and one can be at a time; try again when it is up"
		}
		return "the image did not come up: `privyseal nitro run --debug` shows the last lines of its console. Is its signing certificate still valid? `privyseal nitro measure` says so"
	case "E39":
		return "the process of an enclave on this instance does not answer: `ps -C nitro-cli` shows them, `sudo nitro-cli describe-enclaves` says what they are, and /var/log/nitro_enclaves/nitro_enclaves.log why"
	case "E59":
		return "the certificate that the image was signed with is not valid now: sign it with another, `privyseal nitro measure` says until when that is"
	}
	return ""
}

// unopened is about a file that nitro-cli could not open.
func (l *Launcher) unopened(detail string) string {
	switch {
	case strings.Contains(detail, "/dev/nitro_enclaves"):
		return "launch the instance with enclaves enabled, and add this user to the group ne: `usermod -aG ne USER`"
	case strings.Contains(detail, "ne_cpus"):
		return "type `systemctl enable --now nitro-enclaves-allocator`, on an instance that was launched with enclaves enabled"
	case strings.Contains(detail, "nitro_enclaves.log"):
		return "this user has to be able to write to /var/log/nitro_enclaves: add it to the group ne, `usermod -aG ne USER`"
	}
	return "this user has to be able to read " + l.EIF + " and to write to /var/log/nitro_enclaves"
}

// What nitro-cli says of a launch whose port for the first sign of life is another's
// (create_enclave in src/enclave_proc/resource_manager.rs).
const portTaken = "vsock bind error"

// answer is one of the driver.
type answer struct{ said, cure string }

// finals are those that no waiting changes (do_ioctl there), with what does.
var finals = []answer{
	{"full CPU cores have not been set", "an enclave takes whole cores: give `cpu_count` in the config an even number, on Intel and AMD"},
	{"lower than the minimum supported", "raise `memory_mib` of the enclave in the config: 64 is the least"},
	{"different NUMA nodes", "memory and CPUs of an enclave are of one NUMA node: take an instance with one, or name CPUs of the node with the memory as cpu_pool " + allocator},
	{"being a well-known CID", "give another `cid` in the config, 4 or above, or none"},
}

// refused is about what the driver did not do.
func (l *Launcher) refused(e *LaunchError) string {
	for _, f := range finals {
		if strings.Contains(e.steps, f.said) {
			return f.cure
		}
	}
	const again = "end them, or wait until one that ends has given back what it had"
	switch {
	case strings.Contains(e.steps, "no CPUs are available") || strings.HasPrefix(e.steps, "Add vCPU"):
		return fmt.Sprintf("other enclaves have the CPUs: %s, or raise cpu_count %s", again, allocator)
	case l.CID != 0 && (e.steps == "" || strings.HasPrefix(e.steps, "Start enclave")):
		return fmt.Sprintf("CID %d may belong to an enclave of another user: give another `cid` in the config, or none", l.CID)
	}
	return "the driver refused it, as it does for some seconds after another enclave has ended: " + again +
		". If it stays so, end all enclaves and type `systemctl restart nitro-enclaves-allocator`; then, `dmesg` says why"
}

// passes reports whether a launch that failed so may succeed a moment later: after an
// enclave has ended, the driver has its memory, CPUs and slot for a while (issue 433 of
// aws-nitro-enclaves-cli), and only one launch at a time has the port for the first sign
// of life (issue 516).
func (e *LaunchError) passes() bool {
	return !e.final() && (e.Code == "E29" || e.Code == "E33" || e.Code == "E36" && strings.Contains(e.steps, portTaken))
}

func (e *LaunchError) final() bool {
	return slices.ContainsFunc(finals, func(f answer) bool { return strings.Contains(e.steps, f.said) })
}
