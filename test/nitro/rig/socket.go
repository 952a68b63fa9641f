package rig

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Confirmed is how the process of an enclave begins an answer to nitro-cli. Between them
// is a line with a command, answered by this and JSON. AWS's have CBOR there.
const Confirmed = "confirmed\n"

// SocketPath is get_socket_path in src/common/mod.rs of aws-nitro-enclaves-cli: it has what
// follows the last "-enc" of an enclave's id.
func SocketPath(dir, id string) string {
	return filepath.Join(dir, id[strings.LastIndex("-enc"+id, "-enc"):]+".sock")
}

// Holder is the socket by which nitro-cli reaches the process that holds an enclave.
type Holder struct {
	// Ended gets a value when the enclave has to end.
	Ended <-chan struct{}

	ended    chan<- struct{}
	listener net.Listener
	machine  *Machine
	enclave  *Enclave
	turn     sync.Mutex // held while an answer is made
}

// Hold makes that socket, in the folder dir: everybody may connect, as in
// enable_credentials_passing in src/enclave_proc/connection_listener.rs.
func Hold(m *Machine, e *Enclave, dir string) (*Holder, error) {
	path := SocketPath(dir, e.EnclaveID)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{}, 1)
	h := &Holder{Ended: ended, ended: ended, listener: l, machine: m, enclave: e}
	go h.serve()
	return h, os.Chmod(path, 0o766)
}

// Close removes the socket, after the answer that is made.
func (h *Holder) Close() error {
	h.turn.Lock() // for good
	return h.listener.Close()
}

// serve answers nitro-cli, one call after the other. The enclave has to end when it was
// so ordered, and when a nitro-cli was gone before its answer (notify_error_with_conn in
// src/enclave_proc/mod.rs).
func (h *Holder) serve() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				return
			}
			h.turn.Lock()
			defer h.turn.Unlock()
			if h.answer(conn, strings.TrimSpace(line)) {
				select {
				case h.ended <- struct{}{}:
				default:
				}
			}
		}()
	}
}

// answer reports whether the process has to end. AWS's decides by who asks what it obeys
// (src/enclave_proc/connection.rs), but for stop, which it obeys before it looks at that
// (handle_new_connection in connection_listener.rs).
func (h *Holder) answer(conn net.Conn, command string) (ends bool) {
	var reply any
	switch command {
	case "stop":
		h.listener.Close()
		return false
	case "terminate":
		h.machine.Kill()
		h.listener.Close()
		reply = struct {
			EnclaveName, EnclaveID string
			Terminated             bool
		}{h.enclave.EnclaveName, h.enclave.EnclaveID, true}
		ends = true
	case "describe", "describe metadata":
		e := *h.enclave
		if command == "describe" {
			e.ImageName, e.ImageVersion, e.Metadata = "", "", nil
		}
		reply = e
	default:
		return false
	}
	_, err := io.WriteString(conn, Confirmed)
	if err == nil {
		err = json.NewEncoder(conn).Encode(reply)
	}
	return ends || err != nil
}
