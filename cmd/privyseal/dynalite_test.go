package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"privyseal/internal/dynamostore/dynamotest"
)

// The program on a DynamoDB that others wrote. Where it is not there, the test is skipped.
func TestDynaliteScripts(t *testing.T) {
	t.Parallel()
	o := dynamotest.Dynalite(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/dynalite", WorkdirRoot: diskDir(t), RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"PRIVYSEAL_RUN": filepath.Join(env.WorkDir, "run"), "ENDPOINT": o.URL, "TABLE_ID": o.Create(dynamotest.Table),
				"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "AWS_EC2_METADATA_DISABLED": "true",
			} {
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "await": await, "unlisten": unlisten, "cure": typeCure, "host": host,
			// The table is deleted, and an empty one is made that has its name.
			"make-table-again": func(ts *testscript.TestScript, _ bool, _ []string) {
				o.Delete(dynamotest.Table)
				ts.Setenv("TABLE_ID", o.Create(dynamotest.Table))
			},
		},
	})
}
