package main

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"privyseal/internal/dynamostore/dynamotest"
)

// Every script is a story of hosts that share a state in a table of DynamoDB: the strict stub,
// under TLS.
func TestDynamoDBScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/dynamodb/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal(err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			t.Parallel()
			w := &dynamoWorld{stub: dynamotest.New(t), backups: map[string]map[string]dynamotest.Item{}}
			testscript.Run(t, testscript.Params{
				Files: []string{script}, WorkdirRoot: diskDir(t), RequireExplicitExec: true, Setup: w.setup,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"exits": exits, "await": await, "replace": replace, "unlisten": unlisten, "cure": typeCure, "host": host, "dynamodb": w.dynamodb,
				},
			})
		})
	}
}

// dynamoWorld is the table of a script.
type dynamoWorld struct {
	stub    *dynamotest.Stub
	backups map[string]map[string]dynamotest.Item
}

// setup has the AWS SDK find credentials in the environment, and nothing of this machine.
func (w *dynamoWorld) setup(env *testscript.Env) error {
	roots := filepath.Join(env.WorkDir, "roots.pem")
	for name, value := range map[string]string{
		"PRIVYSEAL_RUN": filepath.Join(env.WorkDir, "run"), "ENDPOINT": w.stub.URL, "TABLE": dynamotest.Table, "SSL_CERT_FILE": roots, "SSL_CERT_DIR": filepath.Join(env.WorkDir, "none"),
		"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		env.Setenv(name, value)
	}
	env.Setenv("AT", strings.TrimPrefix(w.stub.URL, "https://"))
	if err := errors.Join(writeNitroParts(env.WorkDir), nitroSetup(env.Setenv, env.Defer)); err != nil {
		return err
	}
	return os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.stub.Certificate().Raw}), 0o600)
}

// dynamodb does something to the table: describe FIELD JSON, fail OPERATION STATUS CODE (the
// next call of it, which is not executed), answer OPERATION STATUS BODY (likewise), deny
// OPERATION… (from now on these, and no others), only PREFIX
// (of the items that the role may use from now on), lose OPERATION (its answer, once it was
// executed), backup NAME, restore NAME.
func (w *dynamoWorld) dynamodb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: dynamodb describe|fail|answer|deny|only|lose|backup|restore …")
	}
	switch args[0] {
	case "describe":
		var value any
		ts.Check(json.Unmarshal([]byte(args[2]), &value))
		w.stub.Describe(args[1], value)
	case "fail":
		status, err := strconv.Atoi(args[2])
		ts.Check(err)
		body, err := json.Marshal(map[string]string{"__type": args[3], "message": "as the script says"})
		ts.Check(err)
		w.stub.Fail(dynamotest.Fault{Op: args[1], Status: status, Body: string(body)})
	case "answer":
		status, err := strconv.Atoi(args[2])
		ts.Check(err)
		w.stub.Fail(dynamotest.Fault{Op: args[1], Status: status, Body: args[3]})
	case "deny":
		w.stub.Deny(args[1:]...)
	case "only":
		w.stub.Only(args[1])
	case "lose":
		w.stub.Fail(dynamotest.Fault{Op: args[1], Executed: true})
	case "backup":
		w.backups[args[1]] = w.stub.Backup()
	case "restore":
		w.stub.Restore(w.backups[args[1]])
	default:
		ts.Fatalf("dynamodb %s", args[0])
	}
}
