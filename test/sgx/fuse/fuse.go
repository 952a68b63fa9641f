// Package fuse serves a few files of a test as a file system of Linux, by the protocol of
// /dev/fuse (include/uapi/linux/fuse.h): what is read is made when a file is opened, as in
// a device, and what is written is taken as one value.
//
// It is no general library: the tree is fixed, has no listing, and every call that a device
// does not need is refused.
package fuse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// File is one file.
type File struct {
	// Open returns what is read by the one who opens it now. Nil for a file that is only
	// written.
	Open func() ([]byte, syscall.Errno)
	// Write takes what one call of write(2) has. Nil for a file that cannot be written.
	Write func([]byte)
}

// Opcodes.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opMknod       = 8
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opRelease     = 18
	opFlush       = 25
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opCreate      = 35
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42
)

const (
	inHeader = 40
	maxWrite = 4096
	bufSize  = 16 << 10 // above what the kernel requires for maxWrite
	// directIO makes the kernel ask for each read, whatever the size of the file.
	directIO = 1
	minor    = 31 // of version 7
)

var le = binary.LittleEndian

// node is a file, or a folder if it has none.
type node struct {
	file     *File
	children map[string]uint64
}

type server struct {
	dev   int
	nodes map[uint64]*node // 1 is the root

	mu      sync.Mutex
	handles map[uint64][]byte
	last    uint64
}

// Serve serves the files, by their paths below the mount, on a descriptor of /dev/fuse that
// has been mounted, until it is unmounted.
func Serve(dev int, files map[string]File) error {
	s := &server{dev: dev, nodes: map[uint64]*node{1: {children: map[string]uint64{}}}, handles: map[uint64][]byte{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		parent := s.folder(path.Dir(name))
		parent.children[path.Base(name)] = s.add(&node{file: &f})
	}
	buf := make([]byte, bufSize)
	for {
		n, err := syscall.Read(dev, buf)
		switch {
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOENT): // of a call that was interrupted
		case errors.Is(err, syscall.ENODEV):
			return nil
		case err != nil:
			return fmt.Errorf("cannot read /dev/fuse: %w", err)
		case n < inHeader:
			return fmt.Errorf("/dev/fuse has %d bytes", n)
		default:
			go s.serve(bytes.Clone(buf[:n]))
		}
	}
}

func (s *server) add(n *node) uint64 {
	id := uint64(len(s.nodes) + 1)
	s.nodes[id] = n
	return id
}

// folder returns a folder, and makes it and those above.
func (s *server) folder(name string) *node {
	at := s.nodes[1]
	for _, part := range strings.Split(name, "/") {
		if part == "." {
			continue
		}
		if at.children[part] == 0 {
			at.children[part] = s.add(&node{children: map[string]uint64{}})
		}
		at = s.nodes[at.children[part]]
	}
	return at
}

// serve answers one request.
func (s *server) serve(request []byte) {
	opcode := le.Uint32(request[4:])
	if opcode == opForget || opcode == opBatchForget || opcode == opInterrupt {
		return // these have no answer
	}
	body, errno := s.answer(opcode, le.Uint64(request[16:]), request[inHeader:])
	if errno != 0 {
		body = nil
	}
	reply := le.AppendUint32(nil, uint32(16+len(body)))
	reply = le.AppendUint32(reply, uint32(-int32(errno)))
	reply = append(append(reply, request[8:16]...), body...)
	syscall.Write(s.dev, reply) // an error is of a request that was interrupted
}

func (s *server) answer(opcode uint32, id uint64, in []byte) ([]byte, syscall.Errno) {
	n := s.nodes[id]
	switch {
	case opcode == opInit:
		return initialize(in), 0
	case opcode == opDestroy:
		return nil, 0
	case n == nil:
		return nil, syscall.ENOENT
	}
	switch opcode {
	case opLookup:
		return s.lookup(n, in)
	case opGetattr, opSetattr: // a truncation changes nothing
		return append(make([]byte, 16), n.attributes(id)...), 0
	case opOpen:
		return s.open(n, le.Uint32(in))
	case opRead:
		return s.read(le.Uint64(in), le.Uint64(in[8:]), le.Uint32(in[16:]))
	case opWrite:
		if n.file == nil || n.file.Write == nil {
			return nil, syscall.EACCES
		}
		data := in[40:]
		n.file.Write(data)
		return le.AppendUint64(nil, uint64(len(data))), 0
	case opRelease:
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.handles, le.Uint64(in))
		return nil, 0
	case opOpendir:
		return make([]byte, 16), 0
	case opMknod, opCreate:
		return nil, syscall.EACCES
	case opFlush, opReaddir, opReleasedir:
		return nil, 0
	}
	return nil, syscall.ENOSYS
}

func initialize(in []byte) []byte {
	out := make([]byte, 64)
	le.PutUint32(out, 7)
	le.PutUint32(out[4:], min(minor, le.Uint32(in[4:])))
	le.PutUint32(out[8:], le.Uint32(in[8:]))
	le.PutUint32(out[20:], maxWrite)
	le.PutUint32(out[24:], 1) // granularity of times, in ns
	return out
}

// lookup finds a name in a folder. Nothing is cached, and nothing changes.
func (s *server) lookup(folder *node, in []byte) ([]byte, syscall.Errno) {
	id := folder.children[string(bytes.TrimRight(in, "\x00"))]
	if id == 0 {
		return nil, syscall.ENOENT
	}
	entry := make([]byte, 40)
	le.PutUint64(entry, id)
	return append(entry, s.nodes[id].attributes(id)...), 0
}

// attributes are those of stat(2): a size of 0, as the files of devices have.
func (n *node) attributes(id uint64) []byte {
	mode := uint32(syscall.S_IFDIR | 0o555)
	if n.file != nil {
		mode = syscall.S_IFREG
		if n.file.Open != nil {
			mode |= 0o444
		}
		if n.file.Write != nil {
			mode |= 0o200
		}
	}
	a := make([]byte, 88)
	le.PutUint64(a, id)
	le.PutUint32(a[60:], mode)
	le.PutUint32(a[64:], 1)
	return a
}

func (s *server) open(n *node, flags uint32) ([]byte, syscall.Errno) {
	writes := flags&syscall.O_ACCMODE != syscall.O_RDONLY
	if n.file == nil || writes && n.file.Write == nil {
		return nil, syscall.EACCES
	}
	var content []byte
	if n.file.Open != nil {
		var errno syscall.Errno
		if content, errno = n.file.Open(); errno != 0 {
			return nil, errno
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.handles[s.last] = content
	out := make([]byte, 16)
	le.PutUint64(out, s.last)
	le.PutUint32(out[8:], directIO)
	return out, 0
}

func (s *server) read(handle, offset uint64, size uint32) ([]byte, syscall.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content := s.handles[handle]
	if offset >= uint64(len(content)) {
		return nil, 0
	}
	return content[offset:min(uint64(len(content)), offset+uint64(size))], 0
}
