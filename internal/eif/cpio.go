package eif

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"
)

// File is something in a ramdisk. Owner is root and time is 1970, always.
type File struct {
	Name string // relative, without "." and "..", as "dev/console"
	// Mode is st_mode: type and permissions, as [ModeDir]|0o755.
	Mode         uint32
	Data         []byte // of a regular file
	Major, Minor uint32 // of a device
}

// Types of files in st_mode.
const (
	ModeDir     = 0o040000
	ModeRegular = 0o100000
	ModeDevice  = 0o020000 // a character device
	modeType    = 0o170000
)

// maxFile is what the eight hex digits of a size, and the kernel, can take.
const maxFile = 1<<31 - 1

// Archive returns the files as a ramdisk: a cpio archive in the "newc" format of
// the kernel's Documentation/driver-api/early-userspace/buffer-format.rst, not
// compressed. Order, inode numbers and times depend on the list alone. A file's
// folder has to come before it, unless it is the root; no name occurs twice.
func Archive(files []File) ([]byte, error) {
	var b bytes.Buffer
	folders := map[string]bool{".": true}
	seen := map[string]bool{}
	for i, f := range files {
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("cannot put %.100q into a ramdisk: %w", f.Name, err)
		}
		if seen[f.Name] || !folders[path.Dir(f.Name)] {
			return nil, fmt.Errorf("cannot put %.100q into a ramdisk: it is there already, or its folder is missing", f.Name)
		}
		seen[f.Name] = true
		folders[f.Name] = f.Mode&modeType == ModeDir
		f.write(&b, i+1)
	}
	File{Name: "TRAILER!!!"}.write(&b, 0)
	return b.Bytes(), nil
}

func (f File) check() error {
	typ := f.Mode & modeType
	switch {
	case f.Name == "" || f.Name == "." || f.Name[0] == '/' || path.Clean(f.Name) != f.Name || f.Name == ".." || len(f.Name) > 2 && f.Name[:3] == "../" ||
		bytes.IndexByte([]byte(f.Name), 0) >= 0 || len(f.Name) > 1000 || f.Name == "TRAILER!!!":
		return errors.New("its name is not a clean relative path")
	case typ != ModeDir && typ != ModeRegular && typ != ModeDevice || f.Mode&^(modeType|0o7777) != 0:
		return fmt.Errorf("it is not a folder, regular file or character device, but %o", f.Mode)
	case typ != ModeRegular && len(f.Data) > 0 || typ != ModeDevice && (f.Major != 0 || f.Minor != 0):
		return errors.New("it has a field that its type does not have")
	case len(f.Data) > maxFile:
		return fmt.Errorf("it has %d bytes", len(f.Data))
	}
	return nil
}

// write appends one entry: a header of 14 fields, name and data, each padded to
// four bytes.
func (f File) write(b *bytes.Buffer, inode int) {
	links := 1
	if f.Mode&modeType == ModeDir {
		links = 2
	}
	// ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
	fmt.Fprintf(b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		inode, f.Mode, 0, 0, links, 0, len(f.Data), 0, 0, f.Major, f.Minor, len(f.Name)+1, 0, f.Name)
	pad(b)
	b.Write(f.Data)
	pad(b)
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}

// ProgramRamdisk returns the first ramdisk of an image whose /init is one static
// program: the program, a console for what it says before it has mounted
// anything, and the folders to mount on.
//
// module is the driver nsm.ko, which the program loads first, for a kernel that
// does not have it built in; nil leaves it out.
func ProgramRamdisk(program, module []byte) ([]byte, error) {
	if len(program) == 0 {
		return nil, errors.New("cannot make a ramdisk: the program is empty")
	}
	files := append(folders(), File{Name: programName, Mode: ModeRegular | 0o755, Data: program})
	if len(module) > 0 {
		files = append(files, File{Name: moduleName, Mode: ModeRegular | 0o444, Data: module})
	}
	return Archive(files)
}

// The files of the first ramdisk.
const (
	programName = "init"
	moduleName  = "nsm.ko"
)

// folders are what comes before the program in the first ramdisk.
func folders() []File {
	return []File{
		{Name: "dev", Mode: ModeDir | 0o755},
		{Name: "dev/console", Mode: ModeDevice | 0o600, Major: 5, Minor: 1},
		{Name: "proc", Mode: ModeDir | 0o755},
		{Name: "sys", Mode: ModeDir | 0o755},
	}
}

// ProgramIn returns program and module, nil if there is none, of a ramdisk that
// [ProgramRamdisk] made, and whether it is one. The ramdisk may be anybody's.
func ProgramIn(ramdisk []byte) (program, module []byte, ok bool) {
	var before bytes.Buffer
	for i, f := range folders() {
		f.write(&before, i+1)
	}
	program, rest, ok := entryData(programName, ramdisk[min(before.Len(), len(ramdisk)):])
	if !ok {
		return nil, nil, false
	}
	if module, _, ok = entryData(moduleName, rest); !ok {
		module = nil
	}
	// All else of it is compared, instead of decoded.
	again, err := ProgramRamdisk(program, module)
	return program, module, err == nil && bytes.Equal(again, ramdisk)
}

// entryData returns the data of the entry that archive begins with, which has to have
// this name, and what follows it.
func entryData(name string, archive []byte) (data, rest []byte, ok bool) {
	const header, size = 110, 6 + 6*8 // bytes of an entry's header, and where the seventh of its numbers begins
	start := (header + len(name) + 1 + 3) &^ 3
	if len(archive) < start || string(archive[header:header+len(name)+1]) != name+"\x00" {
		return nil, nil, false
	}
	n, err := strconv.ParseUint(string(archive[size:size+8]), 16, 31)
	if err != nil || uint64(len(archive)-start) < n {
		return nil, nil, false
	}
	data, rest = archive[start:][:n:n], archive[start+int(n):]
	return data, rest[min(-int(n)&3, len(rest)):], true
}

// FileRamdisk returns a ramdisk with one file that everybody may read, in the
// root.
func FileRamdisk(name string, data []byte) ([]byte, error) {
	return Archive([]File{{Name: name, Mode: ModeRegular | 0o444, Data: data}})
}

// FileIn returns the file in a ramdisk that [FileRamdisk] made under this name, and
// whether it is one. The ramdisk may be anybody's.
func FileIn(name string, ramdisk []byte) (data []byte, ok bool) {
	if data, _, ok = entryData(name, ramdisk); !ok {
		return nil, false
	}
	// All else of it is compared, instead of decoded.
	again, err := FileRamdisk(name, data)
	return data, err == nil && bytes.Equal(again, ramdisk)
}
