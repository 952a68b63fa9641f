package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"privyseal/internal/vsock"
	"privyseal/test/nitro/manners"
	"privyseal/test/nitro/rig"
)

// patience is ENCLAVE_PROC_WAIT_TIMEOUT_MSEC in src/common/mod.rs.
const patience = 3 * time.Second

// socketsDir is get_sockets_dir_path in src/common/mod.rs.
func (c *cli) socketsDir() string {
	if dir, set := os.LookupEnv("NITRO_CLI_SOCKETS_PATH"); set {
		return dir
	}
	return c.Run()
}

// socketOf is the socket of an enclave's process.
func (c *cli) socketOf(id string) string { return rig.SocketPath(c.socketsDir(), id) }

// ask is enclave_proc_command_send_all in src/enclave_proc_comm.rs: it asks every process,
// removes the sockets that nobody serves, and counts those that stay silent.
func (c *cli) ask(command string) (replies []rig.Enclave, failed int, err error) {
	if _, err := os.ReadDir(c.socketsDir()); err != nil {
		return nil, 0, manners.NoSocketsDir
	}
	paths, err := filepath.Glob(filepath.Join(c.socketsDir(), "*.sock"))
	if err != nil {
		return nil, 0, err
	}
	slices.Sort(paths)
	var conns []net.Conn
	for _, path := range paths {
		conn, err := net.Dial("unix", path)
		if err != nil {
			os.Remove(path)
			continue
		}
		defer conn.Close()
		io.WriteString(conn, command+"\n")
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		var e rig.Enclave
		if receive(conn, &e) != nil {
			failed++
			continue
		}
		replies = append(replies, e)
	}
	return replies, failed, nil
}

// receive reads an answer. Only its beginning has to come within the patience.
func receive(conn net.Conn, reply any) error {
	conn.SetReadDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || line != rig.Confirmed {
		return fmt.Errorf("no answer: %q, %w", line, err)
	}
	conn.SetReadDeadline(time.Time{})
	return json.NewDecoder(r).Decode(reply)
}

// names is get_all_enclave_names in src/lib.rs: who is silent has no name.
func (c *cli) names() (names []string, err error) {
	all, _, err := c.ask("describe")
	for _, e := range all {
		names = append(names, e.EnclaveName)
	}
	return names, err
}

// describe is the arm of describe-enclaves in src/main.rs: it prints those that answered,
// and fails if one did not.
func (c *cli) describe(args []string) error {
	metadata := false
	flags("describe-enclaves", args, func(f *flag.FlagSet) { f.BoolVar(&metadata, "metadata", false, "") })
	command := "describe"
	if metadata {
		command = "describe metadata"
	}
	all, failed, err := c.ask(command)
	if err != nil {
		return err
	}
	if failed > 0 {
		fmt.Fprintf(os.Stderr, "Failed connections: %d\n", failed)
	}
	if err := print(append([]rig.Enclave{}, all...)); err != nil {
		return err
	}
	if failed > 0 {
		return manners.Silent
	}
	return nil
}

// find is what --enclave-id and --enclave-name mean. An id is not looked for.
func (c *cli) find(id, name string) (string, error) {
	if name == "" {
		return id, nil
	}
	all, _, err := c.ask("describe")
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(e rig.Enclave) bool { return e.EnclaveName == name })
	if i < 0 {
		return "", manners.NoName
	}
	return all[i].EnclaveID, nil
}

// terminate is the arm of terminate-enclave in src/main.rs.
func (c *cli) terminate(args []string) error {
	var id, name string
	flags("terminate-enclave", args, func(f *flag.FlagSet) {
		f.StringVar(&id, "enclave-id", "", "")
		f.StringVar(&name, "enclave-name", "", "")
	})
	id, err := c.find(id, name)
	if err != nil {
		return err
	}
	conn, err := net.Dial("unix", c.socketOf(id))
	if err != nil {
		return manners.NoSocket
	}
	defer conn.Close()
	io.WriteString(conn, "terminate\n")
	var reply struct {
		EnclaveName, EnclaveID string
		Terminated             bool
	}
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil {
		return manners.Silent
	}
	if err := json.NewDecoder(r).Decode(&reply); err != nil {
		return manners.Silent
	}
	fmt.Fprintf(os.Stderr, "Successfully terminated enclave %s.\n", id)
	return print(reply)
}

// console is the arm of console in src/main.rs, and Console in src/utils.rs: an enclave
// that ends is an error of it.
func (c *cli) console(args []string) error {
	var id, name string
	flags("console", args, func(f *flag.FlagSet) {
		f.StringVar(&id, "enclave-id", "", "")
		f.StringVar(&name, "enclave-name", "", "")
		f.Int("disconnect-timeout", 0, "")
	})
	id, err := c.find(id, name)
	if err != nil {
		return err
	}
	conn, err := net.Dial("unix", c.socketOf(id))
	if err != nil {
		return manners.NoSocket
	}
	io.WriteString(conn, "describe\n")
	var e rig.Enclave
	err = receive(conn, &e)
	conn.Close()
	switch {
	case err != nil:
		return manners.NoSocket
	case e.Flags != "DEBUG_MODE":
		return manners.NotDebug
	}
	fmt.Printf("Connecting to the console for enclave %d...\n", e.EnclaveCID)
	hypervisor, err := net.Dial("unix", (vsock.Host{CID: uint32(e.EnclaveCID), Dir: c.Sockets()}).ConsolePath())
	if err != nil {
		return manners.NotDebug
	}
	fmt.Println("Successfully connected to the console.")
	if _, err := io.Copy(os.Stdout, hypervisor); err != nil {
		return err
	}
	return manners.ConsoleEnded
}
