package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"privyseal/internal/vsock"
	"privyseal/test/nitro/manners"
	"privyseal/test/nitro/rig"
)

// holder is the process that holds an enclave until it ends or is ended: what
// enclave_process_run in src/enclave_proc/mod.rs becomes.
type holder struct {
	*cli
	talk    *json.Encoder // to the nitro-cli that started it
	machine *rig.Machine
	enclave *rig.Enclave
	image   []byte
}

// process is the life of a holder.
func (c *cli) process(args []string) error {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	syscall.CloseOnExec(3) // QEMU would hold it open
	pipe := os.NewFile(3, "talk")
	h := &holder{cli: c, talk: json.NewEncoder(pipe)}
	var a runArguments
	if err := json.Unmarshal([]byte(args[0]), &a); err != nil {
		return err
	}
	if err := h.start(a); err != nil {
		return err
	}
	defer h.Forget(h.enclave)
	defer h.machine.Kill()
	socket, err := rig.Hold(h.machine, h.enclave, c.socketsDir())
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := h.talk.Encode(word{Enclave: h.enclave}); err != nil {
		return err
	}
	pipe.Close()
	for {
		select {
		case <-h.machine.Done(): // the hang-up of the driver's descriptor
			return nil
		case <-terminated:
			return nil
		case <-socket.Ended:
			return nil
		case <-time.After(time.Second):
			if !rig.Alive(c.Owner) {
				return nil
			}
		}
	}
}

// start launches, and informs nitro-cli why it could not.
func (h *holder) start(a runArguments) error {
	err := h.launch(a)
	if f, ok := errors.AsType[manners.Failure](err); ok {
		h.talk.Encode(word{Failed: &f})
	}
	return err
}

// launch does what run_enclaves in src/enclave_proc/commands.rs and create_enclave in
// resource_manager.rs do, in their order, with the driver's part in between
// (drivers/virt/nitro_enclaves/ne_misc_dev.c).
func (h *holder) launch(a runArguments) (err error) {
	if h.image, err = os.ReadFile(a.Image); err != nil {
		return manners.Unopened(a.Image)
	}
	e := rig.Enclave{
		EnclaveName: a.Name, ProcessID: os.Getpid(), EnclaveCID: a.CID, NumberOfCPUs: a.CPUs,
		MemoryMiB: a.Memory + a.Memory%2, // pages are of 2 MiB
		State:     "RUNNING", Flags: map[bool]string{false: "NONE", true: "DEBUG_MODE"}[a.Debug],
	}
	if err := h.admit(&e, a); err != nil {
		return err
	}
	release := h.Heard()
	if release == nil {
		return manners.PortTaken
	}
	defer release()
	if err := h.mayStart(e); err != nil {
		return err
	}
	h.machine, h.enclave, err = h.Boot(h.image, e, func(m *rig.Machine) { h.started(m, e) })
	if errors.Is(err, rig.ErrNoHeartbeat) {
		return manners.NoHeartbeat
	}
	return err
}

// admit is what is looked at before the enclave has its memory and CPUs.
func (h *holder) admit(e *rig.Enclave, a runArguments) error {
	running, err := h.Enclaves()
	if err != nil {
		return err
	}
	memory, used := h.MemoryMiB, []int{}
	for _, other := range running {
		memory -= other.MemoryMiB
		used = append(used, other.CPUIDs...)
	}
	least := 4 * ((len(h.image) + 1<<20 - 1) >> 20)
	switch {
	case a.CPUs > h.CPUs:
		return manners.SmallPool(a.CPUs, h.CPUs)
	case a.Memory < least:
		return manners.SmallForImage(a.Memory, least)
	case len(used) == h.CPUs:
		return manners.Ioctl(manners.CreateVM, manners.NoCPUs)
	}
	if der := rig.Certificate(h.image); der != nil {
		if c, err := x509.ParseCertificate(der); err != nil || time.Now().After(c.NotAfter) {
			return manners.Certificate
		}
	}
	h.talk.Encode(word{Stderr: manners.Allocating})
	if e.MemoryMiB > memory {
		return manners.NoMemory(a.Memory)
	}
	for id := 1; len(e.CPUIDs) < a.CPUs; id += 2 {
		if id > 2*h.CPUs {
			return manners.Ioctl(manners.AddCPU, manners.Errno(int(syscall.EINVAL)))
		}
		if !slices.Contains(used, id) {
			e.CPUIDs = append(e.CPUIDs, id)
		}
	}
	if e.EnclaveCID == 0 {
		for e.EnclaveCID = 16; inUse(running, e.EnclaveCID); e.EnclaveCID++ {
		}
	}
	return nil
}

func inUse(running []rig.Enclave, cid uint) bool {
	return slices.ContainsFunc(running, func(e rig.Enclave) bool { return e.EnclaveCID == cid })
}

// mayStart is what the driver, and the hypervisor behind it, look at last. Which error
// number the hypervisor has for a CID that is taken, nothing says.
func (h *holder) mayStart(e rig.Enclave) error {
	running, err := h.Enclaves()
	switch {
	case err != nil:
		return err
	case e.MemoryMiB < 64:
		return manners.Ioctl(manners.Start, manners.SmallEnclave)
	case e.NumberOfCPUs%2 != 0:
		return manners.Ioctl(manners.Start, manners.HalfCores)
	case inUse(running, e.EnclaveCID):
		return manners.Ioctl(manners.Start, manners.Errno(int(syscall.EINVAL)))
	}
	return nil
}

// started is between the start of an enclave and its heartbeat. The console of one in
// debug mode can be read from then on.
func (h *holder) started(m *rig.Machine, e rig.Enclave) {
	h.talk.Encode(word{Stderr: manners.Started(e.EnclaveCID, e.MemoryMiB, e.CPUIDs)})
	if e.Flags != "DEBUG_MODE" {
		return
	}
	path := (vsock.Host{CID: uint32(e.EnclaveCID), Dir: h.Sockets()}).ConsolePath()
	os.Remove(path) // of an enclave that is gone
	l, err := net.Listen("unix", path)
	if err != nil {
		return
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				m.CopyConsole(conn)
			}()
		}
	}()
}
