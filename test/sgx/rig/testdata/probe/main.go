// Command probe says what a program finds in an enclave of the rig.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	fmt.Println("arguments", os.Args)
	fmt.Println("environment", strings.Join(os.Environ(), " "))
	filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if d != nil && !d.IsDir() || path == "/dev/attestation" {
			fmt.Println("file", path)
		}
		return nil
	})
	_, err := os.ReadFile("/unmeasured")
	fmt.Println("unmeasured:", errors.Is(err, fs.ErrPermission))
	_, err = net.Dial("unix", os.Getenv("HOST_SOCKET"))
	fmt.Println("socket of the host:", errors.Is(err, fs.ErrNotExist))
	fmt.Println("prctl:", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	fmt.Println("flock:", syscall.Flock(1, syscall.LOCK_EX))
	_, err = unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	fmt.Println("vsock:", err)
	_, err = os.StartProcess("/probe", []string{"probe"}, &os.ProcAttr{})
	fmt.Println("fork:", errors.Is(err, syscall.EAGAIN))
	fmt.Println("copy:", relay())
	attestation()
	if len(os.Args) > 1 && os.Args[1] == "panic" {
		panic("as asked")
	}
	os.Exit(7)
}

// relay copies from one TCP connection to another in the way that Go's library does.
func relay() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	b, err := l.Accept()
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	a.Write([]byte("bytes"))
	a.Close()
	b.SetDeadline(time.Now().Add(time.Minute))
	_, err = io.Copy(c, b)
	if errors.Is(err, syscall.ENOSYS) {
		return syscall.ENOSYS
	}
	return err
}

// attestation tries the files as Gramine's manual does not describe them.
func attestation() {
	const dir = "/dev/attestation/"
	for _, size := range []int{63, 64, 65} {
		err := os.WriteFile(dir+"user_report_data", []byte(strings.Repeat("x", size)), 0)
		quote, err2 := os.ReadFile(dir + "quote")
		fmt.Printf("report data of %d: %v, %v, %q\n", size, err, err2, quote[48+320+60:48+384])
	}
	for _, name := range []string{"attestation_type", "user_report_data", "my_target_info", "report", "keys/_sgx_mrenclave", "keys/_sgx_mrsigner", "keys/other"} {
		data, err := os.ReadFile(dir + name)
		fmt.Printf("%s: %d bytes, %v\n", name, len(data), err)
	}
	for _, name := range []string{"quote", "keys/_sgx_mrenclave", "made"} {
		f, err := os.OpenFile(dir+name, os.O_WRONLY|os.O_CREATE, 0o600)
		fmt.Printf("%s, to write: %v\n", name, errors.Is(err, fs.ErrPermission))
		if err == nil {
			f.Close()
		}
	}
	a, err := os.Open(dir + "quote")
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := os.Open(dir + "quote")
	if err != nil {
		fmt.Println(err)
		return
	}
	os.WriteFile(dir+"user_report_data", []byte("later"), 0)
	one, _ := io.ReadAll(a)
	two, _ := io.ReadAll(b)
	fmt.Println("two readers:", len(one) > 3000, string(one[48+320:48+322]) == string(two[48+320:48+322]))
}
