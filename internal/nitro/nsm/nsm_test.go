package nsm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

// module is a device that answers from a script: hex of an answer, by hex of
// the request.
func module(t *testing.T, answers map[string]string) *Device {
	return &Device{call: func(request []byte) ([]byte, error) {
		answer, ok := answers[hex.EncodeToString(request)]
		if !ok {
			t.Errorf("unexpected request %x", request)
			return nil, errors.New("unexpected")
		}
		return hex.DecodeString(answer)
	}}
}

// Requests and answers as serde_cbor writes the enums of the NSM's API.
const (
	askDescribe = "6b" + "44657363726962654e534d" // "DescribeNSM"
	askRandom   = "69" + "47657452616e646f6d"     // "GetRandom"
	// {"DescribePCR": {"index": 3}}
	askPCR3 = "a1" + "6b4465736372696265504352" + "a1" + "65696e646578" + "03"
	// {"Attestation": {"user_data": h'01', "nonce": null, "public_key": h''}}
	askAttest = "a1" + "6b4174746573746174696f6e" + "a3" + "69757365725f64617461" + "4101" + "656e6f6e6365" + "f6" + "6a7075626c69635f6b6579" + "40"
	// {"Attestation": {"document": h'd0c5'}}
	gotAttest = "a1" + "6b4174746573746174696f6e" + "a1" + "68646f63756d656e74" + "42d0c5"
	// {"GetRandom": {"random": h'000102'}}
	gotRandom = "a1" + "6947657452616e646f6d" + "a1" + "6672616e646f6d" + "43000102"
	// {"DescribeNSM": {"version_major": 1, … "future": 1}}
	gotDescribe = "a1" + "6b44657363726962654e534d" + "a8" +
		"6d76657273696f6e5f6d616a6f7201" + "6d76657273696f6e5f6d696e6f7200" + "6d76657273696f6e5f706174636800" +
		"696d6f64756c655f6964" + "63692d31" + "686d61785f70637273" + "1820" +
		"6b6c6f636b65645f70637273" + "83000102" + "66646967657374" + "66534841333834" + "6666757475726501"
)

func gotPCR(size int) string {
	return "a1" + "6b4465736372696265504352" + "a2" + "646c6f636b" + "f5" + "6464617461" + "58" + hex.EncodeToString([]byte{byte(size)}) + strings.Repeat("ab", size)
}

func TestCalls(t *testing.T) {
	d := module(t, map[string]string{askDescribe: gotDescribe, askRandom: gotRandom, askPCR3: gotPCR(48), askAttest: gotAttest})

	about, err := d.Describe()
	want := Description{Major: 1, ModuleID: "i-1", MaxPCRs: 32, LockedPCRs: []uint16{0, 1, 2}, Digest: "SHA384"}
	if diff := cmp.Diff(want, about); diff != "" || err != nil {
		t.Errorf("Describe: %v\n%s", err, diff)
	}
	pcr, err := d.DescribePCR(3)
	if err != nil || !pcr.Locked || !bytes.Equal(pcr.Value, bytes.Repeat([]byte{0xab}, 48)) {
		t.Errorf("DescribePCR: %+v, %v", pcr, err)
	}
	doc, err := d.Attest([]byte{1}, nil, []byte{})
	if err != nil || !bytes.Equal(doc, []byte{0xd0, 0xc5}) {
		t.Errorf("Attest: %x, %v", doc, err)
	}
	for n, want := range map[int]string{0: "", 1: "00", 3: "000102", 7: "00010200010200"} {
		if b, err := d.Random(n); err != nil || hex.EncodeToString(b) != want {
			t.Errorf("Random(%d): %x, %v", n, b, err)
		}
	}
}

// What the module refuses, or gets wrong, is an error and no value.
func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		want   string
	}{
		"refusal":                 {"a1654572726f726c496e76616c6964496e646578", "the NSM refused: InvalidIndex"},
		"unknown refusal":         {"a1654572726f72624e6f", "no known kind"},
		"refusal that is no text": {"a1654572726f7201", "no known kind"},
		"nothing":                 {"", "malformed"},
		"half":                    {gotPCR(48)[:60], "malformed"},
		"more than one":           {gotPCR(48) + "00", "malformed"},
		"another call's":          {gotRandom, "not an answer to DescribePCR"},
		"empty map":               {"a0", "0 variants"},
		"two variants":            {"a2" + gotPCR(48)[2:] + gotRandom[2:], "2 variants"},
		"variant twice":           {"a2" + gotPCR(48)[2:] + gotPCR(48)[2:], "malformed"},
		"PCR of 47 bytes":         {gotPCR(47), "47 bytes"},
		"no lock":                 {"a1" + "6b4465736372696265504352" + "a1" + "6464617461" + "5820" + strings.Repeat("00", 32), "malformed"},
		"lock is null":            {strings.Replace(gotPCR(48), "f5", "f6", 1), "malformed"},
		"other field":             {strings.Replace(gotPCR(48), "646c6f636b", "646c6f636c", 1), "malformed"},
		"unknown field":           {strings.Replace(gotPCR(48), "a2646c6f636b", "a3617801646c6f636b", 1), "malformed"},
		"field twice":             {strings.Replace(gotPCR(48), "a2646c6f636bf5", "a3646c6f636bf5646c6f636bf5", 1), "malformed"},
		"field in capitals":       {strings.Replace(gotPCR(48), "646c6f636b", "644c6f636b", 1), "malformed"},
		"data as numbers":         {"a1" + "6b4465736372696265504352" + "a2" + "646c6f636b" + "f5" + "6464617461" + "9820" + strings.Repeat("00", 32), "malformed"},
		"data of open length":     {strings.Replace(gotPCR(48), "5830", "5f5830", 1) + "ff", "malformed"},
		"text that is not UTF-8":  {"a1654572726f724180", "no known kind"},
		"true in two bytes":       {strings.Replace(gotPCR(48), "f5", "f815", 1), "malformed"},
		"tagged":                  {strings.Replace(gotPCR(48), "5830", "c05830", 1), "malformed"},
		"map without an end":      {"bf" + gotPCR(48)[2:], "malformed"},
		"longer than it is":       {strings.Replace(gotPCR(48), "5830", "5bffffffffffffffff", 1), "malformed"},
		"nested without end":      {"a16178" + strings.Repeat("81", 1000), "malformed"},
		"fields without end":      {"a16178" + "bf" + strings.Repeat("617801", 1000) + "ff", "malformed"},
		"too long":                {strings.Repeat("00", maxResponse+1), "malformed: 12289 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			pcr, err := module(t, map[string]string{askPCR3: test.answer}).DescribePCR(3)
			if err == nil || !strings.HasPrefix(err.Error(), "cannot read PCR3: ") || !strings.Contains(err.Error(), test.want) || pcr.Value != nil {
				t.Errorf("%+v, %v", pcr, err)
			}
			var refused *Error
			if errors.As(err, &refused) == errors.Is(err, errMalformed) {
				t.Errorf("%v is both, or neither, a refusal and malformed", err)
			}
		})
	}
}

// The hypervisor writes maps of open length, and may write numbers wider than they are.
func TestOtherForms(t *testing.T) {
	open := func(answer string) string { // both maps of {variant: {…}}, whose variant has 11 bytes
		return "bf" + answer[2:26] + "bf" + answer[28:] + "ffff"
	}
	d := module(t, map[string]string{
		askPCR3:     open(strings.Replace(gotPCR(48), "5830", "590030", 1)),
		askDescribe: strings.Replace(open(gotDescribe), "83000102", "9f0019000102ff", 1),
	})
	if pcr, err := d.DescribePCR(3); err != nil || !pcr.Locked || len(pcr.Value) != 48 {
		t.Errorf("DescribePCR: %+v, %v", pcr, err)
	}
	if about, err := d.Describe(); err != nil || !slices.Equal(about.LockedPCRs, []uint16{0, 1, 2}) {
		t.Errorf("Describe: %+v, %v", about, err)
	}
	// What a later version may add has any form, within limits.
	elements := "9f" + strings.Repeat("01", maxElements)
	for added, ok := range map[string]bool{"01": true, "f6": true, "20": false, "f97e00": false, "ff": false, "818181f6": true, "81818181818101": false,
		"a1617882420001617a": true, "bf6178f5ff": true, "a10101": false, elements + "ff": true, elements + "01ff": false} {
		d := module(t, map[string]string{askDescribe: strings.Replace(gotDescribe, "6666757475726501", "66667574757265"+added, 1)})
		if _, err := d.Describe(); (err == nil) != ok {
			t.Errorf("a field %s: %v", added, err)
		}
	}
	for was, is := range map[string]string{"63692d31": "63692d80", "1820": "1a00010020"} {
		d := module(t, map[string]string{askDescribe: strings.Replace(gotDescribe, was, is, 1)})
		if about, err := d.Describe(); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", is, about, err)
		}
	}
}

// Whatever is cut off or changed, what is accepted means the same to the library that
// reads the documents.
func TestDamaged(t *testing.T) {
	for _, answer := range []string{gotPCR(48), gotDescribe, gotAttest, gotRandom} {
		whole, _ := hex.DecodeString(answer)
		for i := range whole {
			agrees(t, whole[:i])
			for bit := range 8 {
				changed := bytes.Clone(whole)
				changed[i] ^= 1 << bit
				agrees(t, changed)
			}
		}
	}
}

// agrees compares what an answer says to us and to the library.
func agrees(t *testing.T, answer []byte) {
	t.Helper()
	mode, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive, TagsMd: cbor.TagsForbidden}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	var theirs map[string]struct {
		Lock     bool            `cbor:"lock"`
		Data     cbor.ByteString `cbor:"data"`
		Document cbor.ByteString `cbor:"document"`
		Random   cbor.ByteString `cbor:"random"`
		Major    uint16          `cbor:"version_major"`
		Minor    uint16          `cbor:"version_minor"`
		Patch    uint16          `cbor:"version_patch"`
		ModuleID string          `cbor:"module_id"`
		MaxPCRs  uint16          `cbor:"max_pcrs"`
		Locked   []uint16        `cbor:"locked_pcrs"`
		Digest   string          `cbor:"digest"`
	}
	wrong := mode.Unmarshal(answer, &theirs)
	d := &Device{call: func([]byte) ([]byte, error) { return answer, nil }}
	if ours, err := d.DescribePCR(0); err == nil && (wrong != nil || ours.Locked != theirs["DescribePCR"].Lock || string(ours.Value) != string(theirs["DescribePCR"].Data)) {
		t.Errorf("%x: a register %+v, not %+v, %v", answer, ours, theirs, wrong)
	}
	if ours, err := d.Attest(nil, nil, nil); err == nil && (wrong != nil || string(ours) != string(theirs["Attestation"].Document)) {
		t.Errorf("%x: a document %x, not %+v, %v", answer, ours, theirs, wrong)
	}
	if ours, err := d.Random(1); err == nil && (wrong != nil || !strings.HasPrefix(string(theirs["GetRandom"].Random), string(ours))) {
		t.Errorf("%x: random bytes %x, not %+v, %v", answer, ours, theirs, wrong)
	}
	if ours, err := d.Describe(); err == nil {
		a := theirs["DescribeNSM"]
		if diff := cmp.Diff(Description{a.Major, a.Minor, a.Patch, a.ModuleID, a.MaxPCRs, a.Locked, a.Digest}, ours); diff != "" || wrong != nil {
			t.Errorf("%x: %v\n%s", answer, wrong, diff)
		}
	}
}

func TestEmptyAnswers(t *testing.T) {
	d := module(t, map[string]string{
		askDescribe: strings.Replace(gotDescribe, "534841333834", "534841323536", 1),
		askRandom:   "a1" + "6947657452616e646f6d" + "a1" + "6672616e646f6d" + "40",
		askAttest:   "a1" + "6b4174746573746174696f6e" + "a1" + "68646f63756d656e74" + "40",
	})
	if _, err := d.Random(1); !errors.Is(err, errMalformed) {
		t.Errorf("Random: %v", err)
	}
	if _, err := d.Attest([]byte{1}, nil, []byte{}); !errors.Is(err, errMalformed) {
		t.Errorf("Attest: %v", err)
	}
	if _, err := d.Describe(); !errors.Is(err, errMalformed) {
		t.Errorf("Describe: %v", err)
	}
}

// What is too large is refused before the device sees it.
func TestLimits(t *testing.T) {
	d := module(t, nil)
	long := make([]byte, MaxField+1)
	for i, f := range [][3][]byte{{long}, {nil, long}, {nil, nil, long}} {
		if _, err := d.Attest(f[0], f[1], f[2]); err == nil {
			t.Errorf("field %d may be too long", i)
		}
	}
	for _, n := range []int{-1, MaxRandom + 1} {
		if _, err := d.Random(n); err == nil {
			t.Errorf("%d random bytes", n)
		}
	}
	for _, i := range []int{-1, 0x10000} {
		if _, err := d.DescribePCR(i); err == nil {
			t.Errorf("PCR%d", i)
		}
	}
	full := &Device{call: func(request []byte) ([]byte, error) {
		if len(request) > maxRequest {
			t.Errorf("a request of %d bytes", len(request))
		}
		return hex.DecodeString(gotAttest)
	}}
	if _, err := full.Attest(long[1:], long[1:], long[1:]); err != nil {
		t.Error(err)
	}
}

func TestDeviceFails(t *testing.T) {
	broken := errors.New("ioctl: input/output error")
	d := &Device{call: func([]byte) ([]byte, error) { return nil, broken }}
	if _, err := d.Random(1); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "nsm")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open without a device: %v", err)
	}
	// A file that is not an NSM knows no such ioctl.
	null, err := Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := null.Describe(); err == nil || !strings.Contains(err.Error(), "ioctl: inappropriate ioctl for device") {
		t.Errorf("Describe of /dev/null: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{gotDescribe, gotRandom, gotPCR(48), gotAttest, "a1654572726f726c496e76616c6964496e646578"} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		d := &Device{call: func([]byte) ([]byte, error) { return answer, nil }}
		if b, err := d.Random(300); err == nil && len(b) != 300 {
			t.Errorf("%d random bytes", len(b))
		}
		agrees(t, answer)
	})
}
