package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

var (
	blockOfShell = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	sampleID     = regexp.MustCompile(`0b6c7d7e-0000-4000-8000-000000000000`)
)

// typeDynamoDB types the blocks of doc/dynamodb.md below a heading, all of them or the one of a
// number, on the table of the script: typed HEADING [N] [FROM=TO…].
func typeDynamoDB(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: typed HEADING [N] [FROM=TO…]")
	}
	page, err := os.ReadFile("../../doc/dynamodb.md")
	ts.Check(err)
	_, section, found := strings.Cut(string(page), "\n## "+args[0]+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := blockOfShell.FindAllStringSubmatch(section, -1)
	if !found || len(blocks) == 0 {
		ts.Fatalf("doc/dynamodb.md has no block below %q", args[0])
	}
	args = args[1:]
	if len(args) > 0 && len(args[0]) == 1 {
		n := int(args[0][0] - '1')
		if n < 0 || n >= len(blocks) {
			ts.Fatalf("no block %s of %d", args[0], len(blocks))
		}
		blocks, args = blocks[n:n+1], args[1:]
	}
	text := "set -e\n"
	for _, b := range blocks {
		text += b[1]
	}
	text = sampleID.ReplaceAllLiteralString(text, ts.Getenv("TABLE_ID"))
	if strings.Contains(text, "privyseal") { // the region's own endpoint is not on this machine
		text = strings.ReplaceAll(text, "--dynamodb-region eu-central-1", "--dynamodb-region eu-central-1 --dynamodb-try 2s --dynamodb-endpoint "+ts.Getenv("ENDPOINT"))
	}
	for _, a := range args {
		from, to, _ := strings.Cut(a, "=")
		if !strings.Contains(text, from) {
			ts.Fatalf("no %q in %s", from, text)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	ts.Check(ts.Exec("sh", "-c", text))
}

// awsCLI is as much of `aws dynamodb` as the guide types, on the server at $ENDPOINT. It knows
// no other flag.
func awsCLI() {
	if err := awsDynamoDB(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "aws: "+err.Error())
		os.Exit(255)
	}
}

func awsDynamoDB(words []string, out io.Writer) error {
	if len(words) < 2 || words[0] != "dynamodb" {
		return fmt.Errorf("%q", words)
	}
	op := map[string]string{"create-table": "CreateTable", "describe-table": "DescribeTable"}[words[1]]
	request, query := map[string]any{}, ""
	for rest := words[2:]; len(rest) > 0; {
		flag := rest[0]
		if flag == "--deletion-protection-enabled" && op == "CreateTable" {
			request["DeletionProtectionEnabled"], rest = true, rest[1:]
			continue
		}
		if len(rest) == 1 {
			return fmt.Errorf("%s has no value", flag)
		}
		value := rest[1]
		rest = rest[2:]
		switch {
		case flag == "--region" && value == "eu-central-1":
		case flag == "--table-name":
			request["TableName"] = value
		case flag == "--query" && op == "DescribeTable":
			query = value
		case flag == "--billing-mode" && op == "CreateTable":
			request["BillingMode"] = value
		case flag == "--attribute-definitions" && op == "CreateTable":
			request["AttributeDefinitions"] = []any{shorthand(value)}
		case flag == "--key-schema" && op == "CreateTable":
			request["KeySchema"] = []any{shorthand(value)}
		default:
			return fmt.Errorf("%s of %s", flag, words[1])
		}
	}
	answer, err := callDynamoDB(op, request)
	if err != nil {
		return err
	}
	for part := range strings.SplitSeq(query, ".") {
		if part != "" {
			answer = answer.(map[string]any)[part]
		}
	}
	return json.NewEncoder(out).Encode(answer)
}

// shorthand reads AttributeName=mark,KeyType=HASH.
func shorthand(text string) map[string]string {
	m := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(pair, "=")
		m[key] = value
	}
	return m
}

func callDynamoDB(op string, request any) (answer any, err error) {
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	q, err := http.NewRequest("POST", os.Getenv("ENDPOINT"), bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	q.Header.Set("X-Amz-Target", "DynamoDB_20120810."+op)
	q.Header.Set("Content-Type", "application/x-amz-json-1.0")
	q.Header.Set("X-Amz-Date", "20261127T155000Z")
	q.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIA/20261127/eu-central-1/dynamodb/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=0000")
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", r.StatusCode, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	return answer, err
}
