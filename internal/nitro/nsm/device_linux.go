package nsm

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlRaw is NSM_IOCTL_RAW, _IOWR(0x0A, 0x0, struct nsm_raw) of Linux'
// include/uapi/linux/nsm.h.
const ioctlRaw = 0xC0200A00

// raw is struct nsm_raw: two iovecs. The driver sets the length of the second
// to that of the answer.
type raw struct {
	request, response unix.Iovec
}

// Open opens the device at path, which is /dev/nsm in an enclave.
func Open(path string) (*Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the NSM: %w", err)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot open the NSM: %w", err)
	}
	call := func(request []byte) (response []byte, err error) {
		// Control keeps a concurrent Close from handing the number to another file.
		if closed := conn.Control(func(fd uintptr) { response, err = ioctl(fd, request) }); closed != nil {
			return nil, closed
		}
		return response, err
	}
	return &Device{call: call, closer: f}, nil
}

func ioctl(fd uintptr, request []byte) ([]byte, error) {
	response := make([]byte, maxResponse)
	message := &raw{}
	message.request.Base, message.response.Base = &request[0], &response[0]
	message.request.SetLen(len(request))
	message.response.SetLen(len(response))
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, ioctlRaw, uintptr(unsafe.Pointer(message)))
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return nil, os.NewSyscallError("ioctl", errno)
		case message.response.Len > maxResponse:
			return nil, fmt.Errorf("%w: %d bytes", errMalformed, message.response.Len)
		}
		return response[:message.response.Len], nil
	}
}
