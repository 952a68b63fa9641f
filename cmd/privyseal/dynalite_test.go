package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/etcd/etcdtest"
)

// The program on a DynamoDB that others wrote, a new one for each script. Where it is not
// there, the test is skipped. A script that begins with "# etcd" has a cluster of etcd too.
func TestDynaliteScripts(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/dynalite/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal(err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			t.Parallel()
			playDynalite(t, script)
		})
	}
}

func playDynalite(t *testing.T, script string) {
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	o := dynamotest.Dynalite(t)
	setup := func(*testscript.Env) error { return nil }
	if strings.HasPrefix(string(text), "# etcd") {
		setup = (&etcdWorld{t: t, c: etcdtest.Start(t, etcdtest.Options{Members: 1}), snapshots: map[string]string{}}).setup
	}
	testscript.Run(t, testscript.Params{
		Files: []string{script}, WorkdirRoot: diskDir(t), RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"PRIVYSEAL_RUN": filepath.Join(env.WorkDir, "run"), "ENDPOINT": o.URL, "TABLE_ID": o.Create(dynamotest.Table),
				"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "AWS_EC2_METADATA_DISABLED": "true",
			} {
				env.Setenv(name, value)
			}
			return setup(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "await": await, "unlisten": unlisten, "cure": typeCure, "host": host,
			"typed":      typeDynamoDB,
			"drop-table": func(*testscript.TestScript, bool, []string) { o.Delete(dynamotest.Table) },
			// $TABLE_ID is that of the table that is there.
			"learn-table-id": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Setenv("TABLE_ID", o.Await(dynamotest.Table))
			},
			// The table is deleted, and an empty one is made that has its name.
			"make-table-again": func(ts *testscript.TestScript, _ bool, _ []string) {
				o.Delete(dynamotest.Table)
				ts.Setenv("TABLE_ID", o.Create(dynamotest.Table))
			},
		},
	})
}
