package measure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/sgx/sgxtest"
)

// What a signature says is printed, and whether the enclave may be started in debug mode.
func TestMeasure(t *testing.T) {
	signer, err := sgxtest.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	var signed func([]byte) // a change before it is signed
	run := func(e sgxtest.Enclave, change func([]byte), args ...string) (out, notes string, err error) {
		raw, err := signer.SigStruct(e, signed)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(raw)
		}
		path := filepath.Join(t.TempDir(), "a.sig")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := New()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		var o, n bytes.Buffer
		cmd.SetOut(&o)
		cmd.SetErr(&n)
		cmd.SetArgs(append(args, path))
		err = cmd.Execute()
		return o.String(), n.String(), err
	}
	e := sgxtest.Enclave{MRENCLAVE: [32]byte{0xe1}, ProductID: 7, SVN: 3}
	want := fmt.Sprintf(`MRENCLAVE   %x
MRSIGNER    %x
product     7
SVN         3
attributes  04000000000000000300000000000000, of which ffffffffffffffff1bfff9ffffffffff count
debug       never
date        2026-03-01, by the signer's word
`, e.MRENCLAVE, signer.MRSIGNER())
	if out, notes, err := run(e, nil); out != want || notes != "" || err != nil {
		t.Errorf("%s%s%v", out, notes, err)
	}
	out, _, err := run(e, nil, "--json")
	var asJSON struct {
		MRENCLAVE string `json:"mrenclave"`
		MayDebug  bool   `json:"may_debug"`
		SVN       int    `json:"svn"`
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &asJSON); err != nil || asJSON.MRENCLAVE != fmt.Sprintf("%x", e.MRENCLAVE) || asJSON.MayDebug || asJSON.SVN != 3 {
		t.Errorf("%s%v", out, err)
	}
	// Gramine's --date 0000-00-00 makes the file the same on each day.
	signed = func(raw []byte) { clear(raw[20:24]) }
	if out, _, err := run(e, nil); !strings.HasSuffix(out, "date        none\n") || err != nil {
		t.Errorf("%s%v", out, err)
	}
	if out, _, err := run(e, nil, "--json"); !strings.Contains(out, `"date": ""`) || err != nil {
		t.Errorf("%s%v", out, err)
	}
	signed = nil
	e.Debug = true
	if out, notes, err := run(e, nil); !strings.Contains(out, "debug       if the host likes\n") || !strings.HasPrefix(notes, "note: the host may start this enclave in debug mode") || err != nil {
		t.Errorf("%s%s%v", out, notes, err)
	}
	if out, _, err := run(e, func(raw []byte) { raw[960]++ }); out != "" || err == nil || !strings.HasSuffix(err.Error(), "a.sig: its signature is wrong") {
		t.Errorf("%s%v", out, err)
	}
}
