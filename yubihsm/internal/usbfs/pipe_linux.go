package usbfs

import (
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// Pipe is a device that is used, by nobody else.
type Pipe struct {
	file *os.File
	of   Device
	bulk func(endpoint byte, data []byte, timeout time.Duration) (int, error)
}

// Requests of usbdevice_fs.h. The sizes in them are those of the structs below.
const (
	setConfiguration = 2<<30 | 4<<16 | 'U'<<8 | 5
	bulkTransfer     = 3<<30 | unsafe.Sizeof(transfer{})<<16 | 'U'<<8 | 2
	claimInterface   = 2<<30 | 4<<16 | 'U'<<8 | 15
)

// transfer is struct usbdevfs_bulktransfer.
type transfer struct {
	endpoint uint32
	length   uint32
	timeout  uint32 // milliseconds, 0: no limit
	data     unsafe.Pointer
}

// Open takes the interface of a device. Errors are those of open(2) and of the kernel's
// ioctls: EBUSY if another program has it, EACCES without the right to its node, ENODEV or
// ENOENT if it is gone.
func (d Device) Open() (*Pipe, error) {
	file, err := os.OpenFile(d.Node, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	p := &Pipe{file: file, of: d}
	p.bulk = p.transfer
	if !d.Configured {
		first := uint32(1)
		if _, err := p.ioctl(setConfiguration, unsafe.Pointer(&first)); err != nil {
			file.Close()
			return nil, err
		}
	}
	if _, err := p.ioctl(claimInterface, unsafe.Pointer(&d.Interface)); err != nil {
		file.Close()
		return nil, err
	}
	return p, nil
}

// Write sends data in one transfer, and an empty packet after it where it would not end by
// itself.
func (p *Pipe) Write(data []byte, timeout time.Duration) error {
	n, err := p.bulk(p.of.Out, data, timeout)
	if err == nil && n != len(data) {
		err = syscall.EIO
	}
	if err == nil && len(data) > 0 && len(data)%p.of.Packet == 0 {
		_, err = p.bulk(p.of.Out, nil, timeout)
	}
	return err
}

// Read receives one transfer, and returns its length. A transfer that does not come within
// the timeout is ETIMEDOUT, one that is longer than data EOVERFLOW. The length of data is a
// multiple of the packets'.
func (p *Pipe) Read(data []byte, timeout time.Duration) (int, error) {
	return p.bulk(p.of.In, data, timeout)
}

// Close gives the device to others.
func (p *Pipe) Close() error { return p.file.Close() }

// transfer is one transfer of either direction.
func (p *Pipe) transfer(endpoint byte, data []byte, timeout time.Duration) (int, error) {
	// With 0 it would wait forever.
	t := transfer{endpoint: uint32(endpoint), length: uint32(len(data)), timeout: uint32(max(1, timeout.Milliseconds()))}
	if len(data) > 0 {
		t.data = unsafe.Pointer(&data[0])
	}
	n, err := p.ioctl(bulkTransfer, unsafe.Pointer(&t))
	runtime.KeepAlive(data)
	return n, err
}

// ioctl holds the file open while the kernel works.
func (p *Pipe) ioctl(request uintptr, argument unsafe.Pointer) (int, error) {
	connection, err := p.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n uintptr
	var errno syscall.Errno
	err = connection.Control(func(fd uintptr) {
		n, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return int(n), err
}
