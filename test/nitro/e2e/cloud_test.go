package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/nitro/e2e/world"
	"privyseal/test/nitro/rig"
)

// The stand-ins for `aws` and `systemctl`. Both ask the test, over a socket.
// aws knows the commands and flags of the guide and no others; its KMS is that of
// the world, and what the guide sets up for the alarm is followed by AWS's rules as
// far as they are documented: EventBridge User Guide, "AWS service events delivered
// via AWS CloudTrail", "Receiving read-only management events", "Sending and
// receiving events between AWS accounts", "Using resource-based policies".

// typedCommand is one that a shell ran.
type typedCommand struct {
	Name string
	Args []string
	Dir  string
}

type commandResult struct {
	Stdout, Failed string
}

// standIn is this program under the name aws or systemctl.
func standIn() int {
	dir, err := os.Getwd()
	if err != nil {
		return 1
	}
	if pager, set := os.LookupEnv("AWS_PAGER"); filepath.Base(os.Args[0]) == "aws" && (!set || pager != "") {
		fmt.Fprintln(os.Stderr, "aws: without an empty AWS_PAGER a pager would wait for a key here")
		return 1
	}
	conn, err := net.Dial("unix", os.Getenv("GUIDE"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	var r commandResult
	err = errors.Join(
		json.NewEncoder(conn).Encode(typedCommand{filepath.Base(os.Args[0]), os.Args[1:], dir}),
		json.NewDecoder(conn).Decode(&r))
	if err != nil || r.Failed != "" {
		fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+":", r.Failed, err)
		return 1
	}
	fmt.Print(r.Stdout)
	return 0
}

func (g *guide) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		var c typedCommand
		if json.NewDecoder(conn).Decode(&c) == nil {
			run := g.cloud.aws
			if c.Name == "systemctl" {
				run = g.systemctl
			}
			out, err := run(c)
			r := commandResult{Stdout: out}
			if err != nil {
				r.Failed = err.Error()
			}
			json.NewEncoder(conn).Encode(r)
		}
		conn.Close()
	}
}

// systemctl does what systemd does with the unit that the guide installed.
func (g *guide) systemctl(c typedCommand) (string, error) {
	line := strings.Join(c.Args, " ")
	switch {
	case line == "enable --now nitro-enclaves-allocator":
		return "", g.allocate()
	case line == "stop privyseal-nitro":
		return "", g.endService()
	case line == "start privyseal-nitro" || line == "enable --now privyseal-nitro":
		return "", g.startService()
	}
	return "", fmt.Errorf("unknown: %s", line)
}

// allocate gives enclaves what the allocator's file sets aside for them.
func (g *guide) allocate() error {
	text, err := os.ReadFile(g.root + "/etc/nitro_enclaves/allocator.yaml")
	if err != nil {
		return err
	}
	i := *g.world.Instance
	if _, err := fmt.Sscanf(string(text), "---\nmemory_mib: %d\ncpu_count: %d\n", &i.MemoryMiB, &i.CPUs); err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	return i.Save()
}

// startService returns when the service says that it is ready, as systemd does for
// Type=notify.
func (g *guide) startService() error {
	unit, err := os.ReadFile(g.root + "/etc/systemd/system/privyseal-nitro.service")
	if err != nil {
		return err
	}
	values := map[string]string{}
	var args []string
	for _, line := range strings.Split(string(unit), "\n") {
		name, value, ok := strings.Cut(line, "=")
		if variable, path, _ := strings.Cut(value, "="); ok && name == "Environment" {
			args = append(args, variable+"="+g.root+path)
		} else if ok {
			values[name] = value
		}
	}
	if values["User"] != "privyseal" || values["Type"] != "notify" {
		return errors.New("the unit is not one of ours")
	}
	address := filepath.Join(g.world.Instance.Dir, "notify")
	os.Remove(address)
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return err
	}
	g.Cleanup(func() { ready.Close() })
	program := strings.Fields(values["ExecStart"])
	args = append(args, g.remembers(), "NOTIFY_SOCKET="+address, "PATH="+g.world.Instance.Dir+":/usr/bin:/bin", g.root+program[0])
	args = append(args, program[1:]...)
	if g.service, err = noderig.StartProcess("privyseal", fmt.Sprintf("%s/service%d.log", g.root, time.Now().UnixNano()), "env", args...); err != nil {
		return err
	}
	if err := ready.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return err
	}
	message := make([]byte, 4096)
	for {
		n, err := ready.Read(message)
		if err != nil {
			return fmt.Errorf("the service is not ready: %w\n%s", err, g.service.Tail(20))
		}
		if strings.Contains(string(message[:n]), "READY=1") {
			return nil
		}
	}
}

func (g *guide) endService() error {
	p := g.service
	if p == nil {
		return nil // as systemd says
	}
	g.service = nil
	return p.Stop(time.Minute)
}

// stopService ends it if it runs.
func (g *guide) stopService() {
	g.Helper()
	if p := g.service; p != nil {
		story.Tail(g.T, p)
		if err := g.endService(); err != nil {
			g.Errorf("the service did not end well: %v", err)
		}
	}
}

const (
	firstAccount  = "123456789012"
	secondAccount = "444455556666"
)

// cloud is AWS with two accounts; the second is that of the profile watch.
type cloud struct {
	g *guide

	mu       sync.Mutex
	policy   string // of the KMS key
	accounts map[string]*account
	mails    chan string // names of events
}

// account holds what an alarm is made of.
type account struct {
	id          string
	roles       map[string]*cloudRole
	bucket      string // policy
	trail       string // ARN
	logging     bool
	rules       map[string]*cloudRule
	mayPut      []string          // accounts that may put events onto the bus
	topics      map[string]string // policies by ARN
	subscribers []string          // topics with one
}

type cloudRole struct {
	trust, policy string
	seen          bool // by KMS, which asks for it the second time
}

type cloudRule struct {
	state   string
	pattern any
	targets []map[string]string
}

func newCloud(g *guide) *cloud {
	c := &cloud{g: g, accounts: map[string]*account{}, mails: make(chan string, 100)}
	for _, id := range []string{firstAccount, secondAccount} {
		c.accounts[id] = &account{id: id, roles: map[string]*cloudRole{}, rules: map[string]*cloudRule{}, topics: map[string]string{}}
	}
	g.world.KMS.Change(func(call rig.KMSCall, _ *rig.KMSAnswer) {
		if call.Refused != "" {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.event(call.Action, true)
	})
	return c
}

// awsFlags are the flags of each command of the guide, all required. Those after a
// bar may be left out.
var awsFlags = map[string]string{
	"sts get-caller-identity":              "",
	"iam create-role":                      "role-name assume-role-policy-document",
	"iam put-role-policy":                  "role-name policy-name policy-document",
	"iam create-instance-profile":          "instance-profile-name",
	"iam add-role-to-instance-profile":     "instance-profile-name role-name",
	"kms create-key":                       "| description",
	"kms put-key-policy":                   "key-id policy-name policy",
	"kms get-key-policy":                   "key-id policy-name",
	"kms list-grants":                      "key-id",
	"kms describe-key":                     "key-id",
	"kms encrypt":                          "key-id plaintext",
	"ec2 create-key-pair":                  "key-name",
	"ec2 create-security-group":            "group-name description",
	"ec2 authorize-security-group-ingress": "group-id protocol port cidr",
	"ec2 run-instances":                    "instance-type image-id iam-instance-profile enclave-options metadata-options key-name security-group-ids",
	"ec2 wait":                             "instance-ids",
	"ec2 describe-instances":               "instance-ids",
	"s3 mb":                                "",
	"s3api put-bucket-policy":              "bucket policy",
	"cloudtrail create-trail":              "name s3-bucket-name",
	"cloudtrail start-logging":             "name",
	"sns create-topic":                     "name",
	"sns set-topic-attributes":             "topic-arn attribute-name attribute-value",
	"sns subscribe":                        "topic-arn protocol notification-endpoint",
	"events put-rule":                      "name state event-pattern",
	"events put-targets":                   "rule targets",
	"events put-permission":                "statement-id action principal",
}

// call is a command of aws.
type call struct {
	*account
	command string
	flags   map[string]string
	rest    []string
}

func (c *cloud) aws(t typedCommand) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := call{account: c.accounts[firstAccount], flags: map[string]string{}}
	var words []string
	for i := 0; i < len(t.Args); i++ {
		name, isFlag := strings.CutPrefix(t.Args[i], "--")
		if !isFlag {
			words = append(words, t.Args[i])
			continue
		}
		if i++; i == len(t.Args) {
			return "", fmt.Errorf("--%s has no value", name)
		}
		q.flags[name] = t.Args[i]
	}
	if len(words) < 2 {
		return "", fmt.Errorf("no command: %q", t.Args)
	}
	q.command, q.rest = strings.Join(words[:2], " "), words[2:]
	if err := q.check(t.Dir); err != nil {
		return "", fmt.Errorf("%s: %w", q.command, err)
	}
	if q.flags["profile"] == "watch" {
		q.account = c.accounts[secondAccount]
	}
	out, err := c.perform(q)
	if err != nil {
		return "", fmt.Errorf("%s: %w", q.command, err)
	}
	return out, nil
}

// check compares the flags with those of the command, and reads files.
func (q *call) check(dir string) error {
	required, optional, _ := strings.Cut(awsFlags[q.command], "|")
	if _, known := awsFlags[q.command]; !known {
		return errors.New("the stand-in does not know it")
	}
	for _, name := range strings.Fields(required) {
		if q.flags[name] == "" {
			return fmt.Errorf("--%s is missing", name)
		}
	}
	for name, value := range q.flags {
		if !slices.Contains(append(strings.Fields(required+" "+optional), "query", "output", "profile"), name) {
			return fmt.Errorf("there is no --%s", name)
		}
		for _, scheme := range []string{"file://", "fileb://"} {
			if path, ok := strings.CutPrefix(value, scheme); ok {
				text, err := os.ReadFile(filepath.Join(dir, path))
				if err != nil {
					return err
				}
				q.flags[name] = string(text)
			}
		}
		value = q.flags[name]
		if (strings.Contains(name, "policy") && !strings.HasSuffix(name, "-name") || name == "event-pattern") && !json.Valid([]byte(value)) {
			return fmt.Errorf("--%s is no JSON: %s", name, value)
		}
	}
	return nil
}

// perform returns what the command prints with the guide's --query.
func (c *cloud) perform(q call) (string, error) {
	service, _, _ := strings.Cut(q.command, " ")
	switch service {
	case "kms":
		return c.kms(q)
	case "events", "sns":
		return q.eventBridge()
	}
	switch q.command {
	case "sts get-caller-identity":
		return q.id + "\n", nil
	case "iam create-role":
		q.roles[q.flags["role-name"]] = &cloudRole{trust: q.flags["assume-role-policy-document"]}
	case "iam add-role-to-instance-profile", "iam put-role-policy":
		r := q.roles[q.flags["role-name"]]
		if r == nil {
			return "", errors.New("NoSuchEntity")
		}
		r.policy = q.flags["policy-document"]
	case "ec2 create-key-pair":
		return "-----BEGIN RSA PRIVATE KEY-----\n", nil
	case "ec2 create-security-group":
		return "sg-1\n", nil
	case "ec2 run-instances":
		return c.g.world.Instance.ID + "\n", nil
	case "ec2 describe-instances":
		return "198.51.100.1\n", nil
	case "s3api put-bucket-policy":
		q.bucket = q.flags["policy"]
	case "cloudtrail create-trail":
		q.trail = "arn:aws:cloudtrail:eu-central-1:" + q.id + ":trail/" + q.flags["name"]
		for _, want := range []string{`"s3:GetBucketAcl"`, `"s3:PutObject"`, q.trail, "arn:aws:s3:::" + q.flags["s3-bucket-name"] + "/AWSLogs/" + q.id + "/*", "cloudtrail.amazonaws.com"} {
			if !strings.Contains(q.bucket, want) {
				return "", fmt.Errorf("InsufficientS3BucketPolicyException: no %s in %s", want, q.bucket)
			}
		}
	case "cloudtrail start-logging":
		q.logging = strings.HasSuffix(q.trail, "/"+q.flags["name"])
	}
	return "", nil
}

func (c *cloud) kms(q call) (string, error) {
	if id := q.flags["key-id"]; id != world.Key && q.command != "kms create-key" {
		return "", fmt.Errorf("NotFoundException: %q", id)
	}
	switch q.command {
	case "kms create-key":
		return world.Key + "\n", c.setPolicy(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + firstAccount + `:root"},"Action":"kms:*","Resource":"*"}}`)
	case "kms put-key-policy":
		c.event("PutKeyPolicy", false)
		put := rig.Put{Caller: "arn:aws:iam::" + q.id + ":user/administrator", Key: world.Key, Exists: c.exists}
		if err := put.Check([]byte(q.flags["policy"])); err != nil {
			return "", err
		}
		return "", c.setPolicy(q.flags["policy"])
	case "kms get-key-policy":
		out, err := json.Marshal(map[string]string{"Policy": c.policy, "PolicyName": "default"})
		return string(out), err
	case "kms encrypt":
		if strings.Contains(c.policy, "NoWayAround") {
			return "", errors.New("AccessDeniedException")
		}
		blob, err := c.g.world.KMS.Encrypt(world.Key, nil, []byte(q.flags["plaintext"]))
		text, _ := json.Marshal(blob) // base64
		return strings.Trim(string(text), `"`) + "\n", err
	}
	return "", nil
}

// exists is what KMS knows of IAM: a role that is new it does not know at once.
func (c *cloud) exists(arn string) bool {
	for _, a := range c.accounts {
		for name, r := range a.roles {
			if arn == "arn:aws:iam::"+a.id+":role/"+name {
				seen := r.seen
				r.seen = true
				return seen
			}
		}
	}
	return false
}

func (c *cloud) setPolicy(policy string) error {
	c.policy = policy
	// The rig's parser expects a list.
	if text := strings.Replace(policy, `"Statement":{`, `"Statement":[{`, 1); text != policy {
		policy = strings.TrimSuffix(text, "}") + "]}"
	}
	return c.g.world.KMS.AddKey(world.Key, []byte(policy))
}

func (q *call) eventBridge() (string, error) {
	switch q.command {
	case "sns create-topic":
		arn := "arn:aws:sns:eu-central-1:" + q.id + ":" + q.flags["name"]
		q.topics[arn] = ""
		return arn + "\n", nil
	case "sns set-topic-attributes":
		q.topics[q.flags["topic-arn"]] = q.flags["attribute-value"]
	case "sns subscribe":
		q.subscribers = append(q.subscribers, q.flags["topic-arn"])
	case "events put-permission":
		q.mayPut = append(q.mayPut, q.flags["principal"])
	case "events put-rule":
		r := &cloudRule{state: q.flags["state"]}
		q.rules[q.flags["name"]] = r
		return "", json.Unmarshal([]byte(q.flags["event-pattern"]), &r.pattern)
	case "events put-targets":
		r := q.rules[q.flags["rule"]]
		if r == nil {
			return "", errors.New("ResourceNotFoundException")
		}
		target := map[string]string{}
		for _, field := range strings.Split(q.flags["targets"], ",") {
			name, value, _ := strings.Cut(field, "=")
			target[name] = value
		}
		r.targets = append(r.targets, target)
	}
	return "", nil
}

// event is one of KMS, as CloudTrail reports it to the key's account.
func (c *cloud) event(name string, readOnly bool) {
	a := c.accounts[firstAccount]
	if a.logging {
		c.deliver(a, map[string]any{
			"source": "aws.kms", "account": a.id, "detail-type": "AWS API Call via CloudTrail",
			"detail": map[string]any{
				"eventSource": "kms.amazonaws.com", "eventName": name, "readOnly": readOnly,
				"resources": []any{map[string]any{"accountId": a.id, "type": "AWS::KMS::Key", "ARN": world.Key}},
			},
		}, readOnly)
	}
}

// deliver puts an event onto the bus of an account.
func (c *cloud) deliver(a *account, event map[string]any, readOnly bool) {
	for _, r := range a.rules {
		enabled := r.state == "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS" || r.state == "ENABLED" && !readOnly
		if !enabled || !matches(r.pattern, event) {
			continue
		}
		for _, target := range r.targets {
			c.send(a, target, event, readOnly)
		}
	}
}

func (c *cloud) send(from *account, target map[string]string, event map[string]any, readOnly bool) {
	arn := strings.Split(target["Arn"], ":")
	to := c.accounts[arn[4]]
	name, _ := event["detail"].(map[string]any)["eventName"].(string)
	switch {
	case arn[2] == "sns":
		policy := to.topics[target["Arn"]]
		if to == from && slices.Contains(to.subscribers, target["Arn"]) && allows(policy, "events.amazonaws.com", "sns:Publish", target["Arn"]) {
			c.mails <- name
		}
	case arn[5] == "event-bus/default" && to != from:
		_, role, _ := strings.Cut(target["RoleArn"], ":role/")
		r := from.roles[role]
		if r != nil && allows(r.trust, "events.amazonaws.com", "sts:AssumeRole", "") && allows(r.policy, "", "events:PutEvents", target["Arn"]) && slices.Contains(to.mayPut, from.id) {
			c.deliver(to, event, readOnly)
		}
	}
}

// allows judges the one statement of a policy of the guide.
func allows(policy, service, action, resource string) bool {
	var p struct {
		Statement struct {
			Effect, Action, Resource string
			Principal                struct{ Service string }
		}
	}
	s := &p.Statement
	return json.Unmarshal([]byte(policy), &p) == nil && s.Effect == "Allow" && s.Principal.Service == service && s.Action == action && s.Resource == resource
}

// matches checks an event against a pattern: each field of the pattern names the
// values of which the event has one, in any element where it has a list.
func matches(pattern, event any) bool {
	if list, ok := event.([]any); ok {
		return slices.ContainsFunc(list, func(e any) bool { return matches(pattern, e) })
	}
	switch p := pattern.(type) {
	case map[string]any:
		fields, ok := event.(map[string]any)
		for name, want := range p {
			ok = ok && fields[name] != nil && matches(want, fields[name])
		}
		return ok
	case []any:
		return slices.Contains(p, event)
	}
	return false
}

// forgetMails drops what the alarm has sent so far.
func (g *guide) forgetMails() {
	for {
		select {
		case <-g.cloud.mails:
		default:
			return
		}
	}
}

// rings waits until the alarm has sent all of these, since mails were forgotten.
func (g *guide) rings(what string, want ...string) {
	g.Helper()
	late := time.After(5 * time.Minute)
	for len(want) > 0 {
		select {
		case mail := <-g.cloud.mails:
			want = slices.DeleteFunc(want, func(name string) bool { return name == mail })
		case <-late:
			g.Fatalf("%s: no mail tells of %s", what, want)
		}
	}
}
