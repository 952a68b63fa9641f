package eif

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// The archive is ASCII apart from its padding, and so its golden file can be
// proof-read. "cpio -it" lists the same.
func TestArchive(t *testing.T) {
	got, err := ProgramRamdisk([]byte("the program"), nil)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := FileRamdisk("policy.json", []byte("{}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/ramdisks.txt")
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.ReplaceAll(string(got)+"\n"+string(policy), "\x00", ".")
	shown = strings.ReplaceAll(shown, "070701", "\n070701") + "\n"
	if shown != string(want) {
		t.Errorf("got\n%s", shown)
	}
	if len(got)%4 != 0 || len(policy)%4 != 0 {
		t.Error("the kernel wants archives one after the other to begin at a multiple of four")
	}
}

func TestArchiveRefuses(t *testing.T) {
	for name, files := range map[string][]File{
		"absolute":           {{Name: "/init", Mode: ModeRegular}},
		"parent":             {{Name: "../init", Mode: ModeRegular}},
		"parent itself":      {{Name: "..", Mode: ModeDir}},
		"root":               {{Name: ".", Mode: ModeDir}},
		"no name":            {{Mode: ModeRegular}},
		"not clean":          {{Name: "dev", Mode: ModeDir}, {Name: "dev//null", Mode: ModeRegular}},
		"slash at the end":   {{Name: "dev/", Mode: ModeDir}},
		"NUL in the name":    {{Name: "a\x00b", Mode: ModeRegular}},
		"the trailer":        {{Name: "TRAILER!!!", Mode: ModeRegular}},
		"twice":              {{Name: "a", Mode: ModeRegular}, {Name: "a", Mode: ModeRegular}},
		"no folder":          {{Name: "dev/console", Mode: ModeDevice}},
		"folder is a file":   {{Name: "dev", Mode: ModeRegular}, {Name: "dev/console", Mode: ModeDevice}},
		"no type":            {{Name: "a", Mode: 0o755}},
		"symbolic link":      {{Name: "a", Mode: 0o120777}},
		"folder with data":   {{Name: "a", Mode: ModeDir, Data: []byte("x")}},
		"file with a number": {{Name: "a", Mode: ModeRegular, Major: 5}},
	} {
		if _, err := Archive(files); err == nil || !strings.HasPrefix(err.Error(), "cannot put ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ProgramRamdisk(nil, nil); err == nil {
		t.Error("a ramdisk without a program")
	}
}

// What is taken out of another program's ramdisk makes the same ramdisk again.
func FuzzFileIn(f *testing.F) {
	for _, data := range []string{"", "{}", "{}\n", "four"} {
		disk, err := FileRamdisk("policy.json", []byte(data))
		if err != nil {
			f.Fatal(err)
		}
		if got, ok := FileIn("policy.json", disk); !ok || string(got) != data {
			f.Errorf("put %q in, and got %q, %v", data, got, ok)
		}
		if _, ok := FileIn("policy.jso", disk); ok {
			f.Error("it is there under another name")
		}
		f.Add(disk)
		f.Add(disk[:len(disk)-1])
		f.Add(append(disk[:len(disk):len(disk)], 0))
	}
	f.Fuzz(func(t *testing.T, disk []byte) {
		data, ok := FileIn("policy.json", disk)
		if !ok {
			return
		}
		if again, err := FileRamdisk("policy.json", data); err != nil || !bytes.Equal(again, disk) {
			t.Fatalf("%q is %q, %v", disk, again, err)
		}
	})
}

// A first ramdisk is ours only if it is that to the byte: what the kernel finds in
// front of the program, after it, or twice, may be another program.
func TestProgramIn(t *testing.T) {
	make := func(program, module string) []byte {
		disk, err := ProgramRamdisk([]byte(program), []byte(module))
		if err != nil {
			t.Fatal(err)
		}
		return disk
	}
	for _, length := range []int{1, 2, 3, 4, 5, 1000} {
		program := strings.Repeat("p", length)
		for _, module := range []string{"", "m", "mod", "modu"} {
			p, m, ok := ProgramIn(make(program, module))
			if !ok || string(p) != program || string(m) != module {
				t.Errorf("%d bytes and module %q: %d bytes, %q, %v", length, module, len(p), m, ok)
			}
		}
	}
	disk := make("program", "module")
	for name, other := range map[string][]byte{
		"empty":             nil,
		"without its start": disk[bytes.Index(disk[10:], []byte("070701"))+10:],
		"cut":               disk[:len(disk)-4],
		"longer":            append(bytes.Clone(disk), 0, 0, 0, 0),
		"two archives":      append(bytes.Clone(disk), make("other", "")...),
		"another mode":      bytes.Replace(disk, []byte("000081ED"), []byte("000089ED"), 1),
		"padding":           bytes.Replace(disk, []byte("program\x00"), []byte("program\x01"), 1),
	} {
		if bytes.Equal(other, disk) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, _, ok := ProgramIn(other); ok {
			t.Errorf("%s: taken for ours", name)
		}
	}
	for i := range disk {
		altered := bytes.Clone(disk)
		altered[i] ^= 1
		if p, m, ok := ProgramIn(altered); ok && string(p) == "program" && string(m) == "module" {
			t.Errorf("byte %d does not count", i)
		}
	}
}

// What is taken out of a first ramdisk puts the same ramdisk together again.
func FuzzProgramIn(f *testing.F) {
	for _, module := range []string{"", "m", "module"} {
		disk, err := ProgramRamdisk([]byte("program"), []byte(module))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(disk)
		f.Add(disk[:len(disk)-1])
		f.Add(append(disk[:len(disk):len(disk)], disk...))
	}
	f.Fuzz(func(t *testing.T, disk []byte) {
		program, module, ok := ProgramIn(disk)
		if !ok {
			return
		}
		if again, err := ProgramRamdisk(program, module); err != nil || !bytes.Equal(again, disk) {
			t.Fatalf("%q and %q are %q, %v", program, module, again, err)
		}
	})
}
