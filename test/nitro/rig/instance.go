package rig

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Instance is an EC2 instance in a folder: a nitro-cli (test/nitro/nitrocli) and
// the enclaves that it started. The enclaves outlive the processes that started
// them, as on EC2; Close ends them, and so does the end of Owner.
type Instance struct {
	// Dir holds everything. Its path has to be short, see NewDir.
	Dir string
	// ID and Role are the instance's: PCR4 and PCR3.
	ID, Role string
	// MemoryMiB and CPUs are what its allocator has set aside for enclaves.
	MemoryMiB, CPUs int
	// Append is put after the command line of each image, unmeasured.
	Append string
	// Heartbeat is how long nitro-cli waits for an enclave to come up; 0 means the 180 s
	// of the real one.
	Heartbeat time.Duration
	// Owner is the process without which no enclave lives on; 0 means this one.
	Owner int
}

// Enclave is an enclave as nitro-cli describes it.
type Enclave struct {
	EnclaveName  string
	EnclaveID    string
	ProcessID    int
	EnclaveCID   uint
	NumberOfCPUs int
	CPUIDs       []int
	MemoryMiB    int
	State        string
	Flags        string
	Measurements map[string]string
	// What is printed with --metadata alone. Metadata has no key of its own for what is
	// custom.
	ImageName    string         `json:",omitempty"`
	ImageVersion string         `json:",omitempty"`
	Metadata     map[string]any `json:",omitempty"`
}

const instanceFile = "instance.json"

// NewInstance sets an instance up in i.Dir: its files, and its nitro-cli, which is
// built. Documents of its enclaves are signed under root. Zero fields get values
// that do.
func NewInstance(i Instance, root *Root) (*Instance, error) {
	if i.ID == "" {
		i.ID = "i-0123456789abcdef0"
	}
	if i.Role == "" {
		i.Role = "arn:aws:iam::123456789012:role/validator"
	}
	if i.MemoryMiB == 0 {
		i.MemoryMiB = 1024
	}
	if i.CPUs == 0 {
		i.CPUs = 4
	}
	if i.Owner == 0 {
		i.Owner = os.Getpid()
	}
	if i.Heartbeat == 0 {
		i.Heartbeat = 180 * time.Second
	}
	for _, sub := range []string{"sockets", "enclaves", "left", "m", "run"} {
		if err := os.MkdirAll(filepath.Join(i.Dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(i.Save(), root.Save(i.Dir)); err != nil {
		return nil, err
	}
	program := filepath.Join(i.Dir, "nitrocli")
	build := exec.Command("go", "build", "-o", program, "privyseal/test/nitro/nitrocli")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build nitro-cli: %w\n%s", err, out)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %q --rig %q \"$@\"\n", program, i.Dir)
	return &i, os.WriteFile(i.CLI(), []byte(script), 0o700)
}

// Save makes changes of the fields known to nitro-cli.
func (i *Instance) Save() error {
	text, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(i.Dir, instanceFile), text, 0o600)
}

// LoadInstance returns the instance of a folder.
func LoadInstance(dir string) (*Instance, error) {
	text, err := os.ReadFile(filepath.Join(dir, instanceFile))
	if err != nil {
		return nil, err
	}
	var i Instance
	return &i, json.Unmarshal(text, &i)
}

// CLI returns the path of nitro-cli.
func (i *Instance) CLI() string { return filepath.Join(i.Dir, "nitro-cli") }

// Sockets returns the folder with the unix sockets that stand for vsock.
func (i *Instance) Sockets() string { return filepath.Join(i.Dir, "sockets") }

// ConsoleFile returns where the console of an enclave goes. It stays when the
// enclave has ended.
func (i *Instance) ConsoleFile(id string) string {
	return filepath.Join(i.Dir, "left", id+".console")
}

// OutgoingFile returns where every byte goes that left an enclave over vsock, in
// the order of its packets. It stays when the enclave has ended.
func (i *Instance) OutgoingFile(id string) string {
	return filepath.Join(i.Dir, "left", id+".outgoing")
}

// Run returns where the processes of enclaves have their sockets unless nitro-cli is configured
// otherwise: what /run/nitro_enclaves is on EC2.
func (i *Instance) Run() string { return filepath.Join(i.Dir, "run") }

// Heard takes the port of the heartbeat, which one launch has at a time, and returns what
// gives it back; nil while another has it.
func (i *Instance) Heard() (release func()) {
	f, err := os.OpenFile(filepath.Join(i.Dir, "port-9000"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil
	}
	return func() { f.Close() }
}

func (i *Instance) enclaveFile(id string) string {
	return filepath.Join(i.Dir, "enclaves", id+".json")
}

// Enclaves returns those that run. One whose process was killed is not among them.
func (i *Instance) Enclaves() ([]Enclave, error) {
	files, err := filepath.Glob(i.enclaveFile("*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	running := []Enclave{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // it ended just now
		}
		if err != nil {
			return nil, err
		}
		var e Enclave
		if err := json.Unmarshal(text, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if Alive(e.ProcessID) {
			running = append(running, e)
		}
	}
	return running, nil
}

// Alive reports whether a process runs. One that has ended and that nobody has
// waited for does not.
func Alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// "PID (NAME) STATE …", and the name may hold anything.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// ErrNoHeartbeat says that an enclave was started and did not come up. It was ended.
var ErrNoHeartbeat = errors.New("no heartbeat")

// Boot starts an enclave in this process, calls started, waits for the heartbeat, and makes
// the enclave known. The caller fills in what nitro-cli knows.
func (i *Instance) Boot(file []byte, e Enclave, started func(*Machine)) (*Machine, *Enclave, error) {
	im, err := readImage(file)
	if err != nil {
		return nil, nil, err
	}
	root, err := LoadRoot(i.Dir)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(filepath.Join(i.Dir, "m"), "")
	if err != nil {
		return nil, nil, err
	}
	// Its name is known only when it runs.
	console, err := os.Create(i.ConsoleFile(filepath.Base(dir)))
	if err != nil {
		return nil, nil, err
	}
	outgoing, err := os.Create(i.OutgoingFile(filepath.Base(dir)))
	if err != nil {
		return nil, nil, err
	}
	m, err := Start(Config{
		Image: file, Dir: dir, Sockets: i.Sockets(), Root: root, CID: uint32(e.EnclaveCID),
		MemoryMiB: e.MemoryMiB, Role: i.Role, Instance: i.ID, Debug: e.Flags == "DEBUG_MODE",
		Append: i.Append, Console: console, Tap: func(_ uint32, payload []byte) { outgoing.Write(payload) },
	})
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	e.EnclaveID = m.ModuleID
	e.ImageName, e.ImageVersion, e.Metadata = im.name, im.version, im.metadata
	e.Measurements = measurements(im)
	err = errors.Join(os.Rename(console.Name(), i.ConsoleFile(e.EnclaveID)), os.Rename(outgoing.Name(), i.OutgoingFile(e.EnclaveID)))
	if err == nil {
		started(m)
		err = i.await(m)
	}
	if err == nil {
		err = i.remember(&e)
	}
	if err != nil {
		m.Kill()
		os.RemoveAll(dir)
		return nil, nil, err
	}
	go func() {
		<-m.Done()
		os.RemoveAll(dir)
	}()
	return m, &e, nil
}

// await waits for the heartbeat. That an enclave has ended shortens nothing, as in the real
// one: it listens for the heartbeat alone.
func (i *Instance) await(m *Machine) error {
	ctx, cancel := context.WithTimeout(context.Background(), i.Heartbeat)
	defer cancel()
	_, err := m.Heartbeat(ctx)
	if err != nil {
		<-ctx.Done()
		return fmt.Errorf("%w: %w", ErrNoHeartbeat, err)
	}
	return nil
}

// measurements are of the file, as nitro-cli prints them, in debug mode too.
func measurements(im *image) map[string]string {
	out := map[string]string{"HashAlgorithm": "Sha384 { ... }"}
	for i, p := range im.measure() {
		if i != 8 || im.certificate != nil {
			out[fmt.Sprintf("PCR%d", i)] = hex.EncodeToString(p[:])
		}
	}
	return out
}

// remember writes the file whole before it has its name.
func (i *Instance) remember(e *Enclave) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	part := i.enclaveFile(e.EnclaveID) + ".part"
	return errors.Join(os.WriteFile(part, text, 0o600), os.Rename(part, i.enclaveFile(e.EnclaveID)))
}

// Forget is for an enclave that has ended.
func (i *Instance) Forget(e *Enclave) { os.Remove(i.enclaveFile(e.EnclaveID)) }

// Kill ends an enclave as a crash does: with no word to anybody.
func (i *Instance) Kill(e Enclave) error { return syscall.Kill(e.ProcessID, syscall.SIGKILL) }

// Close ends all enclaves, and returns when they are gone.
func (i *Instance) Close() error {
	running, err := i.Enclaves()
	if err != nil {
		return err
	}
	for _, e := range running {
		syscall.Kill(e.ProcessID, syscall.SIGTERM)
		for Alive(e.ProcessID) {
			time.Sleep(5 * time.Millisecond) // a process that is not a child of ours cannot be waited for
		}
	}
	return nil
}
