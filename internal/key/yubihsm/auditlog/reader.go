package auditlog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"privyseal/internal/regular"
)

// extension ends the names of files.
const extension = ".log"

// maxFile is the size in bytes from which on the next file begins. Tests have less.
var maxFile int64 = 4 << 20

// volume is one file of a device.
type volume struct {
	path   string
	number uint32
}

// volumes returns the files of a device in order, none if there is no folder.
func volumes(folder string, serial uint32) (list []volume, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if s, number, ok := ofName(e.Name()); ok && s == serial {
			list = append(list, volume{filepath.Join(folder, e.Name()), number})
		}
	}
	slices.SortFunc(list, func(a, b volume) int { return int(int64(a.number) - int64(b.number)) })
	return list, nil
}

// nameOf returns the name of a file.
func nameOf(serial, number uint32) string {
	return fmt.Sprintf("%010d-%06d%s", serial, number, extension)
}

// ofName reads what nameOf writes, and nothing else.
func ofName(name string) (serial, number uint32, ok bool) {
	a, b, _ := strings.Cut(strings.TrimSuffix(name, extension), "-")
	s, err1 := strconv.ParseUint(a, 10, 32)
	n, err2 := strconv.ParseUint(b, 10, 32)
	return uint32(s), uint32(n), err1 == nil && err2 == nil && name == nameOf(uint32(s), uint32(n))
}

// Serials returns the devices that a folder has files of.
func Serials(folder string) (list []uint32, err error) {
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		if serial, _, ok := ofName(e.Name()); ok && !slices.Contains(list, serial) {
			list = append(list, serial)
		}
	}
	return list, err
}

// reader reads the lines of one file, as far as each belongs after the one before.
type reader struct {
	file  *os.File
	in    *bufio.Reader
	chain digest // of the last line
	line  int    // its number
	size  int64  // of all lines up to it
}

func (v volume) open() (*reader, error) {
	f, _, err := regular.Open(v.path)
	if err != nil {
		return nil, err
	}
	return &reader{file: f, in: bufio.NewReaderSize(f, 64<<10)}, nil
}

// damageError is a line that is not what was written.
type damageError struct {
	line int
	why  string
	// torn: nothing that could be a line comes after it, as after a crash.
	torn bool
}

func (e *damageError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.why) }

// next returns the next record. At the end of the file it returns io.EOF, and a
// *damageError where the line is not one, or does not belong there.
func (r *reader) next() (record, error) {
	line, err := r.in.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return record{}, io.EOF
	case err == io.EOF:
		return record{}, &damageError{r.line + 1, "it ends in the middle", true}
	case err == bufio.ErrBufferFull || err == nil && len(line) > maxLine:
		return record{}, r.damaged("it is too long")
	case err != nil:
		return record{}, err
	}
	text, chain, _ := cutLast(string(line[:len(line)-1]))
	rec, err := parse(text)
	if err != nil {
		return record{}, r.damaged(err.Error())
	}
	if after := r.chain.over(text); after.String() != chain {
		return record{}, r.damaged("its digest does not follow from the lines before it: it, or what was before it, was changed, removed or moved")
	}
	if (r.line == 0) != (rec.word == wordHead) {
		return record{}, r.damaged("it does not belong there")
	}
	r.chain, r.line, r.size = r.chain.over(text), r.line+1, r.size+int64(len(line))
	return rec, nil
}

// damaged returns what is wrong with the next line. It is torn if no later line is a record.
func (r *reader) damaged(why string) error {
	e := &damageError{line: r.line + 1, why: why, torn: true}
	for range 1 << 10 {
		line, err := r.in.ReadSlice('\n')
		if text, _, ok := cutLast(strings.TrimSuffix(string(line), "\n")); ok {
			if _, wrong := parse(text); wrong == nil {
				e.torn = false
				return e
			}
		}
		if err != nil && err != bufio.ErrBufferFull {
			return e
		}
	}
	e.torn = false
	return e
}

// cutLast cuts the last word off a line.
func cutLast(line string) (text, last string, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return "", "", false
	}
	return line[:i], line[i+1:], true
}
