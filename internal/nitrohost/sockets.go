package nitrohost

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Where the processes of enclaves have the sockets that nitro-cli reaches them by.
// AWS's own folder lets every user of the instance in, and one who connects can have
// an enclave's process stop listening, before it asks who that is: the enclave is in no
// list any more, and keeps its memory.
const (
	socketsVariable = "NITRO_CLI_SOCKETS_PATH"

	// SocketsDir is the folder that systemd/privyseal-nitro.service makes, for us
	// alone. Commands beside the service have to look there too.
	SocketsDir = "/run/privyseal-nitro"
)

// environment is ours but for the variables of AWS: nitro-cli needs none, and a
// process keeps its own for as long as it lives. BACKTRACE has it say which step failed:
// all that the driver refuses is E29.
func environment() []string {
	env := []string{"BACKTRACE=1"}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "BACKTRACE=") {
			env = append(env, v)
		}
	}
	if _, set := os.LookupEnv(socketsVariable); !set && CheckSockets(SocketsDir) == nil {
		env = append(env, socketsVariable+"="+SocketsDir)
	}
	return env
}

// Sockets returns the folder of the sockets that nitro-cli is given, "" for its own
// default.
func Sockets() string {
	for _, v := range environment() {
		if path, ok := strings.CutPrefix(v, socketsVariable+"="); ok {
			return path
		}
	}
	return ""
}

// CheckSockets says why a folder is not one that this user alone gets into.
func CheckSockets(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s has mode %04o, and users other than its owner have access", dir, info.Mode().Perm())
	case !ok || int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%s is not the folder of this user", dir)
	}
	return nil
}
