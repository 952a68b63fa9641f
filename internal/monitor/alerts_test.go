package monitor

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

const (
	alertsDir  = "../../doc/alerts"
	operations = "../../doc/operations.md"
)

// rule is one alert of the rule file.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(alertsDir, "privyseal.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) == 0 {
		t.Fatal("there are no rules")
	}
	return rules
}

func readOperations(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each alert says how bad it is, and leads to a section that says what to do; and
// no such section is left over.
func TestRunbooks(t *testing.T) {
	var want []string
	for _, r := range readRules(t) {
		if !slices.Contains([]string{"P1", "P2", "P3"}, r.Labels["severity"]) || r.Annotations["summary"] == "" {
			t.Errorf("%s: severity %q, summary %q", r.Alert, r.Labels["severity"], r.Annotations["summary"])
		}
		if got := r.Annotations["runbook"]; got != "doc/operations.md#"+strings.ToLower(r.Alert) {
			t.Errorf("%s: its runbook is %q", r.Alert, got)
		}
		want = append(want, r.Alert)
	}
	var got []string
	for _, section := range regexp.MustCompile(`(?m)^### (Privyseal\w+)\n\n(?:.+\n)*- \*\*Do:\*\* .+\n- \*\*It can wait:\*\* .+\n`).FindAllStringSubmatch(readOperations(t), -1) {
		got = append(got, section[1])
	}
	if !slices.Equal(got, want) {
		t.Errorf("sections of operations.md:\n%v\nalerts:\n%v", got, want)
	}
}

// served returns the labels of each metric that a signer with all its parts serves.
func served(t *testing.T) map[string][]string {
	t.Helper()
	m, c := newTestChain("name", "chain-1", watermark.Saved{})
	m.Enclave("main")
	m.LogLost(func() int64 { return 0 })
	c.Witness(func() witness.Snapshot {
		return witness.Snapshot{State: witness.Stopped, Tip: 7, TipTime: time.Unix(1, 0), Sources: []witness.Source{{Addr: "http://w"}}}
	})
	c.Devices(func() []Device { return []Device{{Address: "usb://1", LogSize: 62, Audited: true}} })
	m.Clusters([]Cluster{{Store: "etcd", Name: "main", Looked: time.Unix(1, 0), Expires: time.Unix(1, 0), Voters: 3, Alarms: []string{}, Members: []ClusterMember{{Address: "https://m", Version: "3", Quota: 1, Expires: time.Unix(1, 0)}}}})
	m.Findings([]Findings{{Store: "etcd", Name: "main"}})
	c.Observe(signedEvent(7))
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{"up": {"job"}, "process_start_time_seconds": {"job"}}
	for _, f := range families {
		names := []string{"job", "instance", "le"}
		for _, l := range f.Metric[0].Label {
			names = append(names, l.GetName())
		}
		all[f.GetName()] = names
	}
	return all
}

// Each metric and label that a rule names is one that is served, and each reason one
// that is counted.
func TestRulesNameWhatIsServed(t *testing.T) {
	all := served(t)
	selector := regexp.MustCompile(`\b(privyseal_\w+|up|process_\w+)(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`(\w+)(=~|=|!~|!=)"([^"]*)"`)
	for _, r := range readRules(t) {
		for _, s := range selector.FindAllStringSubmatch(r.Expr, -1) {
			name := strings.TrimSuffix(s[1], "_bucket")
			labels, known := all[name]
			if !known {
				t.Errorf("%s: there is no metric %s", r.Alert, name)
				continue
			}
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("%s: %s has no label %s, only %v", r.Alert, name, m[1], labels)
				}
				known := map[string][]string{"reason": signer.Reasons(), "state": append(witness.States(), "dialling"), "kind": kinds()}
				if values, is := known[m[1]]; is {
					checkValues(t, r.Alert, m[3], values)
				}
			}
		}
		for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(r.Annotations["summary"], -1) {
			name := strings.TrimSuffix(selector.FindStringSubmatch(r.Expr)[1], "_bucket")
			if m[1] != "instance" && !slices.Contains(all[name], m[1]) {
				t.Errorf("%s: its summary wants label %s of %s", r.Alert, m[1], name)
			}
		}
	}
}

// kinds returns the values of the label kind: of messages, and of failures.
func kinds() []string {
	list := []string{"proposal", "prevote", "precommit", otherLabel}
	for _, f := range signer.Faults() {
		list = append(list, string(f))
	}
	return list
}

// checkValues checks that each alternative of a matcher matches a value.
func checkValues(t *testing.T, alert, pattern string, values []string) {
	t.Helper()
	for _, one := range strings.Split(pattern, "|") {
		is, err := regexp.Compile("^(?:" + one + ")$")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(values, is.MatchString) {
			t.Errorf("%s: no series has the value %s", alert, one)
		}
	}
}

// The reference has a row for each metric that there can be.
func TestReferenceHasEachMetric(t *testing.T) {
	text, err := os.ReadFile("../../doc/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := newTestChain("name", "chain-1", watermark.Saved{})
	m.LogLost(func() int64 { return 0 })
	all := make(chan *prometheus.Desc)
	go func() {
		defer close(all)
		m.metrics.registry.Describe(all)
	}()
	n := 0
	for d := range all {
		name := regexp.MustCompile(`fqName: "(privyseal_\w+)"`).FindStringSubmatch(d.String())
		if name == nil {
			continue // of the process
		}
		n++
		if !strings.Contains(string(text), "\n| `"+name[1]+"` |") {
			t.Errorf("%s is in no row: families of test/reference does not have it", name[1])
		}
	}
	if n < 20 {
		t.Errorf("%d metrics were looked for", n)
	}
}

// Each alert has a story in which it rings and one, or a time, in which it does
// not; and promtool finds the stories true.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(alertsDir, "privyseal.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readRules(t) {
		if !strings.Contains(string(text), `alertname="`+r.Alert+`"`) {
			t.Errorf("in no story does %s ring", r.Alert)
		}
	}
	cmd := exec.Command(promtool(t), "test", "rules", "privyseal.test.yml")
	cmd.Dir = alertsDir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// promtool returns the path of Prometheus' tool for rules, which
// `scripts/setup promtool` brings.
func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	bin, err := exec.Command("../../scripts/setup", "bin").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(strings.TrimSpace(string(bin)), "promtool")
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("PRIVYSEAL_REQUIRE_PROMTOOL") == "1" {
			t.Fatal(err)
		}
		t.Skip("promtool is missing; `scripts/setup promtool` brings it")
	}
	return path
}
