package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"privyseal/test/sgx/rig"
	"privyseal/test/tools"
)

// sgxMachine makes the machine with SGX of all scripts of a run, with the program beside it.
var sgxMachine = sync.OnceValues(func() (*rig.Machine, error) {
	dir := filepath.Join(scratch, "sgx")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	m, err := rig.New(dir)
	if err != nil {
		return nil, err
	}
	collateral, err := m.Collateral()
	return m, errors.Join(err, tools.BuildMeasured(context.Background(), filepath.Join(dir, rig.Program)),
		os.WriteFile(filepath.Join(dir, "platform.json"), collateral, 0o600), os.WriteFile(filepath.Join(dir, "root.pem"), m.RootPEM(), 0o600))
})

// sgxSetup gives a script a machine with SGX: gramine-sgx and gramine-sgx-sign in $PATH, and in
// $SGX the program, root.pem, platform.json and enclave-key.pem.
func sgxSetup(env *testscript.Env) error {
	if err := rig.Available(); err != nil {
		if os.Getenv("PRIVYSEAL_REQUIRE_SGX") == "1" {
			return err
		}
		env.T().Skip(err)
	}
	m, err := sgxMachine()
	if err != nil {
		return err
	}
	env.Setenv("SGX", m.Dir)
	env.Setenv("PATH", strings.Join([]string{m.Path(), env.Getenv("PATH")}, string(os.PathListSeparator)))
	return nil
}

// Every script is a story of commands on a machine with SGX.
func TestSGXScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/sgx", WorkdirRoot: diskDir(t), RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PRIVYSEAL_RUN", filepath.Join(env.WorkDir, "run"))
			return sgxSetup(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "await": await, "replace": replace, "unlisten": unlisten, "cure": typeCure, "mode": mode,
		},
	})
}
