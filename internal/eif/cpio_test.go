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

// What is taken out of a stranger's ramdisk, puts the same ramdisk together again.
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
