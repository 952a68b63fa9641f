package yubihsmtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// programs are Yubico's own, which `scripts/setup yubihsm` brings.
var programs = []string{"yubihsm-shell", "yubihsm-connector", "yubihsm-wrap", "pkcs11-tool", "yubihsm-python"}

// TestJudges has Yubico's programs work on the simulator. What a script in
// testdata/judges expects of them is what they say of a device.
func TestJudges(t *testing.T) {
	bin := Programs(t, programs...)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/judges",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
			b := &bench{t: env.T().(testing.TB)}
			env.Values[benchKey{}] = b
			b.use(Options{})
			env.Setenv("URL", b.URL())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"firmware": firmware,
			"shell":    shell,
		},
	})
}

// bench is what a script works at: a device.
type bench struct {
	t testing.TB
	*Device
}

type benchKey struct{}

func benchOf(ts *testscript.TestScript) *bench { return ts.Value(benchKey{}).(*bench) }

func (b *bench) use(o Options) {
	b.Device = New(b.t, o)
}

// firmware MAJOR.MINOR.PATCH takes another device.
func firmware(ts *testscript.TestScript, _ bool, args []string) {
	var v [3]byte
	if _, err := fmt.Sscanf(args[0], "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		ts.Fatalf("firmware: %v", err)
	}
	b := benchOf(ts)
	b.use(Options{Firmware: v})
	ts.Setenv("URL", b.URL())
}

// shell runs yubihsm-shell with the session of authentication key 1, unless it is told of
// another one.
func shell(ts *testscript.TestScript, neg bool, args []string) {
	all := append([]string{"-C", benchOf(ts).URL()}, args...)
	if !slices.Contains(args, "-p") {
		all = append(all, "-p", "password")
	}
	if err := ts.Exec("yubihsm-shell", all...); neg != (err != nil) {
		ts.Fatalf("yubihsm-shell: %v", err)
	}
}
