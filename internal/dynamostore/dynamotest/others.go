package dynamotest

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The emulators' folders, as scripts/setup names them.
const (
	dynalite = "dynalite-4.0.0"
	moto     = "moto-5.2.5"
)

// Both say where they listen, and end with their standard input, and so with the test.
const (
	runDynalite = `const s = require(process.argv[1])({createTableMs: 0, deleteTableMs: 0})
s.listen(0, "127.0.0.1", () => console.log("http://127.0.0.1:" + s.address().port))
process.stdin.on("end", () => process.exit()).resume()`
	runMoto = `import os, sys, threading
def end():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end, daemon=True).start()
from moto.server import main
main(["-H", "127.0.0.1", "-p", "0"])`
)

// Other is a DynamoDB that others wrote, on loopback and without TLS. Any credentials will
// do.
type Other struct {
	URL string // http://127.0.0.1:PORT

	t testing.TB
}

// Dynalite starts one in JavaScript, which runs until the test ends. Without it the test is
// skipped, or fails where PRIVYSEAL_REQUIRE_DYNAMODB is 1.
func Dynalite(t testing.TB) *Other {
	t.Helper()
	folder := find(t, dynalite, "scripts/setup dynamodb", os.Getenv("PRIVYSEAL_REQUIRE_DYNAMODB") == "1")
	return run(t, exec.Command(filepath.Join(folder, "node"), "-e", runDynalite, filepath.Join(folder, "node_modules", "dynalite")))
}

// Moto starts one in Python, where PRIVYSEAL_REQUIRE_MOTO is 1, as in `make test-peers`; else
// the test is skipped. Its tables have no TableId: one is put into the descriptions.
func Moto(t testing.TB) *Other {
	t.Helper()
	if os.Getenv("PRIVYSEAL_REQUIRE_MOTO") != "1" {
		t.Skip("moto is for make test-peers")
	}
	cmd := exec.Command("python3", "-W", "ignore", "-c", runMoto)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+find(t, moto, "scripts/setup moto", true))
	o := run(t, cmd)
	created := regexp.MustCompile(`"CreationDateTime": ([0-9.]+)`)
	o.URL = o.Front(func(op string, r *http.Response) bool {
		if op != "DescribeTable" || r.StatusCode != http.StatusOK {
			return true
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return false
		}
		if at := created.FindSubmatch(body); at != nil {
			body = bytes.Replace(body, []byte(`{"Table": {`), fmt.Appendf(nil, `{"Table": {"TableId": "moto-%s", `, bytes.ReplaceAll(at[1], []byte("."), []byte("-"))), 1)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Length", fmt.Sprint(len(body)))
		return true
	})
	return o
}

// find returns the folder of an emulator. Without it the test is skipped, or fails.
func find(t testing.TB, name, cure string, required bool) string {
	t.Helper()
	folder, err := lookUp(name)
	switch {
	case err != nil && required:
		t.Fatalf("%v; `%s` brings it", err, cure)
	case err != nil:
		t.Skipf("%v; `%s` brings it", err, cure)
	}
	return folder
}

func lookUp(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	setup := filepath.Join(dir, "scripts", "setup")
	for _, err = os.Stat(setup); err != nil; _, err = os.Stat(setup) {
		if dir == filepath.Dir(dir) {
			return "", errors.New("no folder above this one has scripts/setup")
		}
		dir = filepath.Dir(dir)
		setup = filepath.Join(dir, "scripts", "setup")
	}
	bin, err := exec.Command(setup, "bin").Output()
	if err != nil {
		return "", fmt.Errorf("cannot run %s: %w", setup, err)
	}
	folder := filepath.Join(strings.TrimSpace(string(bin)), name)
	_, err = os.Stat(folder)
	return folder, err
}

var listens = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`)

// run starts an emulator, and waits until it says where it listens.
func run(t testing.TB, cmd *exec.Cmd) *Other {
	t.Helper()
	stop, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop.Close()
		cmd.Wait()
	})
	said := make(chan string, 1)
	go func() {
		defer r.Close()
		all, at := "", ""
		for lines := bufio.NewScanner(r); at == "" && lines.Scan(); {
			all += lines.Text() + "\n"
			at = listens.FindString(lines.Text())
		}
		said <- cmp.Or(at, all)
		io.Copy(io.Discard, r)
	}()
	o := &Other{URL: <-said, t: t}
	if !listens.MatchString(o.URL) {
		t.Fatalf("%s does not listen, and says: %s", cmd.Path, o.URL)
	}
	return o
}

// Front returns the URL of a proxy before it. change sees each answer before the client does,
// and may change it; an answer for which it says false is lost.
func (o *Other) Front(change func(op string, r *http.Response) bool) (endpoint string) {
	o.t.Helper()
	target, err := url.Parse(o.URL)
	if err != nil {
		o.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorLog: log.New(io.Discard, "", 0),
		ModifyResponse: func(r *http.Response) error {
			_, op, _ := strings.Cut(r.Request.Header.Get("X-Amz-Target"), ".")
			if !change(op, r) {
				return errors.New("the answer is lost")
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	s := httptest.NewUnstartedServer(proxy)
	s.Config.ErrorLog = proxy.ErrorLog
	s.Start()
	o.t.Cleanup(s.Close)
	return s.URL
}

// Create makes a table that marks can be in, and returns its TableId.
func (o *Other) Create(table string) (id string) {
	o.t.Helper()
	status, body := o.call("CreateTable", map[string]any{
		"TableName":            table,
		"KeySchema":            []map[string]string{{"AttributeName": "mark", "KeyType": "HASH"}},
		"AttributeDefinitions": []map[string]string{{"AttributeName": "mark", "AttributeType": "S"}},
		"BillingMode":          "PAY_PER_REQUEST",
	})
	if status != http.StatusOK {
		o.t.Fatalf("cannot make the table %s: %d %s", table, status, body)
	}
	return o.Await(table)
}

// Await waits until a table is there, and returns its TableId.
func (o *Other) Await(table string) (id string) {
	o.t.Helper()
	for { // there is no call that waits; each one lets the server go on
		status, body := o.call("DescribeTable", map[string]string{"TableName": table})
		var d struct {
			Table struct{ TableStatus, TableId string }
		}
		if err := json.Unmarshal(body, &d); err != nil || status != http.StatusOK {
			o.t.Fatalf("the table %s: %d %s", table, status, body)
		}
		if d.Table.TableStatus == "ACTIVE" {
			return d.Table.TableId
		}
	}
}

// Delete takes a table away.
func (o *Other) Delete(table string) {
	o.t.Helper()
	if status, body := o.call("DeleteTable", map[string]string{"TableName": table}); status != http.StatusOK {
		o.t.Fatalf("cannot delete the table %s: %d %s", table, status, body)
	}
	for status := http.StatusOK; status == http.StatusOK; {
		status, _ = o.call("DescribeTable", map[string]string{"TableName": table})
	}
}

// call makes a call as somebody who is not asked who he is.
func (o *Other) call(op string, request any) (status int, body []byte) {
	o.t.Helper()
	text, err := json.Marshal(request)
	if err != nil {
		o.t.Fatal(err)
	}
	q, err := http.NewRequest("POST", o.URL, bytes.NewReader(text))
	if err != nil {
		o.t.Fatal(err)
	}
	q.Header.Set("X-Amz-Target", "DynamoDB_20120810."+op)
	q.Header.Set("Content-Type", "application/x-amz-json-1.0")
	q.Header.Set("X-Amz-Date", "20261127T155000Z")
	q.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIA/20261127/eu-central-1/dynamodb/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=0000")
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		o.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err = io.ReadAll(r.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return r.StatusCode, body
}
