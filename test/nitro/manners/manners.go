// Package manners is what nitro-cli says when it fails, and how it ends, for all who play
// it in tests. Read in the source of aws-nitro-enclaves-cli 1.5.0, file by file as noted;
// the sentences behind the names of the errors are not AWS's.
package manners

import (
	"fmt"
	"os"
	"strings"
)

// Failure is one way in which nitro-cli fails.
type Failure struct {
	Code int    // NitroCliErrorEnum in src/common/mod.rs: E29 is 29
	Text string // the beginning of get_detailed_info in src/common/document_errors.rs
	File string // with Operation: what E19 adds
	Op   string
	// Steps are the subactions, the outermost first, as construct_backtrace prints them.
	Steps []string
	Root  string // file of the root error
}

// Said is what construct_error_message in src/common/mod.rs makes of it, where the log
// folder cannot be written: without the path of an error log. The backtrace is there if
// the caller has set BACKTRACE=1.
func (f Failure) Said() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[ E%02d ] %s. Such error appears when something fails.", f.Code, f.Text)
	if f.File != "" {
		fmt.Fprintf(&b, "\nFile: '%s', failing operation: '%s'.", f.File, f.Op)
	}
	fmt.Fprintf(&b, "\n\nFor more details, please visit https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#E%02d", f.Code)
	if os.Getenv("BACKTRACE") == "1" {
		fmt.Fprintf(&b, "\n\nBacktrace:\n  Action: Run Enclave\n  Subactions:")
		for _, s := range f.Steps {
			b.WriteString("\n    " + s)
		}
		fmt.Fprintf(&b, "\n  Root error file: %s\n  Root error line: 1\n  Version: 1.5.0", f.Root)
	}
	b.WriteByte('\n')
	return b.String()
}

// Error returns the number and the name.
func (f Failure) Error() string { return fmt.Sprintf("E%02d: %s", f.Code, f.Text) }

// Process is what nitro-cli prints, and its exit status, when the process of an enclave
// failed: that sends its own error (notify_error_with_conn in src/enclave_proc/mod.rs) and
// no JSON, which nitro-cli counts as a connection that failed
// (enclave_process_handle_all_replies in src/enclave_proc_comm.rs). So every launch that
// fails there ends with E39, and the first error on stderr is the cause.
func (f Failure) Process() (stderr string, status int) {
	f.Steps = append([]string{"Failed to execute command `Run`", "Failed to trigger enclave run"}, f.Steps...)
	return f.Said() + "Failed connections: 1\n" + Silent.Said(), Silent.Code
}

// CLI is the same for an error of nitro-cli's own (ok_or_exit_with_errno in
// src/common/mod.rs).
func (f Failure) CLI() (stderr string, status int) { return f.Said(), f.Code }

const (
	manager = "src/enclave_proc/resource_manager.rs"
	comm    = "src/enclave_proc_comm.rs"
)

// What nitro-cli's own process finds.
var (
	// Silent ends describe-enclaves, behind the list, when a process answers neither within
	// 3 s (ENCLAVE_PROC_WAIT_TIMEOUT_MSEC) nor with JSON.
	Silent = Failure{Code: 39, Text: "Enclave process connection failure", Root: comm,
		Steps: []string{"Failed to handle all enclave process replies", "Failed to connect to 1 enclave processes"}}
	// NoSocket is terminate-enclave and console for an id that nobody has, whatever it is:
	// a path is made of it and dialled (enclave_proc_connect_to_single).
	NoSocket = Failure{Code: 11, Text: "Socket error", Root: comm,
		Steps: []string{"Failed to connect to enclave process", `Failed to connect to specific enclave process: Os { code: 2, kind: NotFound, message: "No such file or directory" }`}}
	// NoName is the same for --enclave-name (get_id_by_name in src/lib.rs).
	NoName = Failure{Code: 58, Text: "Naming error", Root: "src/lib.rs",
		Steps: []string{"No enclave matched the given name."}}
	// NoSocketsDir is describe-enclaves, and run-enclave when it asks for all names, where
	// the folder of the sockets cannot be read (enclave_proc_connect_to_all).
	NoSocketsDir = Failure{Code: 7, Text: "Read from disk failure", Root: comm,
		Steps: []string{"Failed to send command to all enclave processes", "Failed to access sockets directory"}}
	// NotDebug is console for an enclave that is not in debug mode (src/main.rs).
	NotDebug = Failure{Code: 44, Text: "Enclave console connection failure", Root: "src/main.rs",
		Steps: []string{"Failed to connect to enclave console", "The enclave was not started with the debug flag set, include '--debug-mode' in the run-enclave command"}}
	// ConsoleEnded is how console ends when the enclave does (Console::read_to in
	// src/utils.rs; issue 405).
	ConsoleEnded = Failure{Code: 45, Text: "Enclave console read error", Root: "src/utils.rs",
		Steps: []string{"Connect to enclave console", "Failed to read data from the console: ECONNRESET"}}
)

// ReservedCID is a CID that no enclave may have (parse_enclave_cid in
// src/common/commands_parser.rs). Only the backtrace says which.
func ReservedCID(cid uint) Failure {
	return Failure{Code: 3, Text: "Invalid argument provided. The parameter `MISSING_INFO` is not a valid integer (`MISSING_INFO`)", Root: "src/common/commands_parser.rs",
		Steps: []string{"Failed to construct RunEnclave arguments", "Parse enclave CID", fmt.Sprintf("CID %d is a well-known CID, not to be used for enclaves", cid)}}
}

// Log is a log that nitro-cli cannot open, before anything else (open_log_file in
// src/common/logger.rs).
func Log(path string) Failure {
	return unopened(path, "src/common/logger.rs", "Failed to open log file")
}

// What the process of an enclave finds.

// Unopened is a file that a launch cannot open: the image (src/enclave_proc/commands.rs),
// the pool of CPUs (cpu_info.rs), the device (resource_manager.rs), in that order.
func Unopened(path string) Failure { return unopened(path, manager, "Failed to open file") }

func unopened(path, root, step string) Failure {
	return Failure{Code: 19, Text: "File operation failure", File: path, Op: "Open", Root: root,
		Steps: []string{step + `: Os { code: 13, kind: PermissionDenied, message: "Permission denied" }`}}
}

// SmallPool is for more CPUs than the pool of the allocator has, whoever uses them
// (get_cpu_config in src/enclave_proc/cpu_info.rs). CPUs that others use are [Ioctl]'s.
func SmallPool(asked, pool int) Failure {
	return Failure{Code: 22, Text: fmt.Sprintf("Insufficient CPUs available in the pool. User provided `cpu-count` is %d, which is more than the configured CPU pool size", asked), Root: "src/enclave_proc/cpu_info.rs",
		Steps: []string{"Failed to get CPU configuration", fmt.Sprintf("Insufficient CPUs available (requested %d, but maximum is %d)", asked, pool)}}
}

// SmallForImage is for less memory than four times the image (EnclaveHandle::new).
func SmallForImage(asked, least int) Failure {
	return Failure{Code: 26, Text: fmt.Sprintf("Insufficient memory requested. User provided `memory` is %d MB, but based on the EIF file size, the minimum memory should be %d MB", asked, least), Root: manager,
		Steps: []string{"Failed to create enclave handle", fmt.Sprintf("At least %d MB must be allocated (which is 4 times the EIF file size)", least)}}
}

// NoMemory is for more memory than there is in huge pages (ResourceAllocator::allocate).
func NoMemory(asked int) Failure {
	return Failure{Code: 27, Text: fmt.Sprintf("Insufficient memory available. User provided `memory` is %d MB, which is more than the available hugepage memory", asked), Root: manager,
		Steps: []string{"Failed to create enclave", "Memory initialization issue", "Failed to allocate enclave memory", "Failed to allocate entire memory"}}
}

// Certificate is a signed image whose certificate is not valid now
// (src/enclave_proc/commands.rs).
var Certificate = Failure{Code: 59, Text: "EIF signature checker error", Root: "src/enclave_proc/commands.rs",
	Steps: []string{"Invalid signing certificate"}}

// Steps of a launch at which the driver may refuse, and what it says (do_ioctl; all are
// E29, whatever E30 to E33 are for).
const (
	CreateVM  = "Create VM ioctl failed"
	SetMemory = "Set user memory region ioctl failed"
	AddCPU    = "Add vCPU ioctl failed"
	Start     = "Start enclave ioctl failed"

	NoCPUs       = "The enclave cannot be created because no CPUs are available in the pool"
	HalfCores    = "The enclave cannot start because full CPU cores have not been set"
	SmallEnclave = "The enclave's memory size is lower than the minimum supported"
	OtherNode    = "The memory region's pages and the CPUs belong to different NUMA nodes"
)

// Errno is what do_ioctl says for an error that is not one of the driver's own.
func Errno(n int) string { return fmt.Sprintf("An error has occurred: %d (rc: -1)", n) }

// Ioctl is a refusal of the driver.
func Ioctl(step, said string) Failure {
	return Failure{Code: 29, Text: "Ioctl failure", Root: manager, Steps: []string{"Failed to create enclave", step, said}}
}

// PortTaken is a second launch at the same time: all wait for the heartbeat on one port
// (create_enclave; issue 516).
var PortTaken = Failure{Code: 36, Text: "Enclave boot failure", Root: manager,
	Steps: []string{"Failed to run enclave", "Failed to create enclave", "Enclave boot heartbeat vsock connection - vsock bind error"}}

// NoHeartbeat is an enclave that was started and did not come up, 180 s later for an
// ordinary one (calculate_necessary_timeout; enclave_ready in eif_loader/src/lib.rs). It
// is ended.
var NoHeartbeat = Failure{Code: 36, Text: "Enclave boot failure", Root: manager,
	Steps: []string{"Failed to run enclave", "Failed to create enclave", "Waiting on enclave to boot failed with error VsockTimeoutError"}}

// Started is what the process says on stderr between the start of an enclave and its
// heartbeat (EnclaveHandle::start).
func Started(cid uint, mib int, cpus []int) string {
	return fmt.Sprintf("Started enclave with enclave-cid: %d, memory: %d MiB, cpu-ids: %s\n", cid, mib, strings.ReplaceAll(fmt.Sprint(cpus), " ", ", "))
}

// Allocating is what it says before it does anything else with the driver (init_memory).
const Allocating = "Start allocating memory...\n"
