package image

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"privyseal/internal/eif"
	"privyseal/internal/policy"
)

// One file for both roots stays one for both.
func TestImagePolicyOfOneRoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(path, []byte(policy.AWSRoots()), 0o600); err != nil {
		t.Fatal(err)
	}
	f := imagePolicyFlags{kmsKey: "arn:aws:kms:eu-central-1:111122223333:key/00000000-1111-2222-3333-444444444444", tlsRoots: path, attestationRoot: path}
	p, err := f.policy()
	if err != nil {
		t.Fatal(err)
	}
	if p.TLSRoots != policy.AWSRoots() || p.AttestationRoot != policy.AWSRoots() {
		t.Errorf("a root was dropped: %d and %d bytes", len(p.TLSRoots), len(p.AttestationRoot))
	}
}

// What an image is to know of etcd is all there, or the missing flag is named.
func TestImagePolicyOfEtcd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, []byte(policy.AWSRoots()), 0o600); err != nil {
		t.Fatal(err)
	}
	const ca, name, id = "--etcd-ca", "--etcd-server-name", "--etcd-cluster-id"
	all := []string{ca, path, name, "etcd-1.example", name, "10.0.0.1", id, "cdf818194e3a8c32"}
	for _, tt := range []struct {
		args []string
		want policy.Etcd
		says string
	}{
		{nil, policy.Etcd{}, ""},
		{all, policy.Etcd{ServerNames: []string{"etcd-1.example", "10.0.0.1"}, ClusterID: "cdf818194e3a8c32", Prefix: "/privyseal"}, ""},
		{append(all[:6:6], id, "df818194e3a8c32", "--etcd-prefix", "/ours"), policy.Etcd{ServerNames: []string{"etcd-1.example", "10.0.0.1"}, ClusterID: "0df818194e3a8c32", Prefix: "/ours"}, ""},
		{all[2:], policy.Etcd{}, ca + " FILE is missing"},
		{[]string{"--etcd-prefix", "/privyseal"}, policy.Etcd{}, ca + " FILE is missing"},
		{append(all[:2:2], id, "cdf818194e3a8c32"), policy.Etcd{}, name + " NAME is missing"},
		{all[:6], policy.Etcd{}, id + " ID is missing"},
		{append(all[:6:6], id, "14841639068965178418"), policy.Etcd{}, id + ": \"1484"},
		{append(all[:4:4], name, "*.example", id, "1"), policy.Etcd{}, name + ": \"*.example\""},
		{append(all[:8:8], "--etcd-prefix", "privyseal"), policy.Etcd{}, "--etcd-prefix: \"privyseal\""},
		{append([]string{ca, path + ".none"}, all[2:]...), policy.Etcd{}, ca + ": open"},
	} {
		cmd := NewImagePolicy()
		var out, said bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&said)
		cmd.SetArgs(append([]string{"--kms-key", "arn:aws:kms:eu-central-1:111122223333:key/1"}, tt.args...))
		err := cmd.Execute()
		if tt.says != "" {
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q: %v, not %q", tt.args, err, tt.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
			continue
		}
		p, err := policy.Parse(out.Bytes(), policy.Nitro)
		if tt.want.ClusterID != "" {
			tt.want.CA = policy.AWSRoots()
		}
		if err != nil || !reflect.DeepEqual(p.Etcd, tt.want) {
			t.Errorf("%q: %+v, %v", tt.args, p, err)
		}
	}
}

// The registers do not distinguish a command line from the end of a kernel, so an enclave may
// run without ours. What its words decide is decided by the kernel's configuration too.
func TestNothingStandsOnTheCommandLineOnly(t *testing.T) {
	config, err := os.ReadFile("../../../../kernel/nitro.config")
	if err != nil {
		t.Fatal(err)
	}
	for word, instead := range map[string]struct{ has, lacks string }{
		"panic=1":             {"CONFIG_PANIC_TIMEOUT=1", "CONFIG_PANIC_TIMEOUT=0"},
		"pci=off":             {"", "CONFIG_PCI=y"},
		"nomodules":           {"", "CONFIG_MODULES=y"},
		"reboot=k":            {"", ""}, // how it ends, not whether
		"console=ttyS0":       {"", ""}, // of debug mode
		"random.trust_cpu=on": {"CONFIG_HW_RANDOM=y", ""},
		"i8042.noaux":         {"", "CONFIG_SERIO_I8042=y"},
		"i8042.nomux":         {"", "CONFIG_SERIO_I8042=y"},
		"i8042.nopnp":         {"", "CONFIG_SERIO_I8042=y"},
		"i8042.dumbkbd":       {"", "CONFIG_SERIO_I8042=y"},
	} {
		lines := "\n" + string(config)
		if instead.has != "" && !strings.Contains(lines, "\n"+instead.has+"\n") {
			t.Errorf("%s: the kernel has no %s", word, instead.has)
		}
		if instead.lacks != "" && strings.Contains(lines, "\n"+instead.lacks+"\n") {
			t.Errorf("%s: the kernel has %s", word, instead.lacks)
		}
		for arch, cmdline := range Cmdlines() {
			cmdline = strings.ReplaceAll(" "+cmdline+" ", " "+word+" ", " ")
			if arch == eif.ARM64 && strings.HasPrefix(word, "i8042") {
				continue
			}
			if len(cmdline) == len(Cmdlines()[arch])+2 {
				t.Errorf("%s is not on the command line of %s any more", word, arch)
			}
		}
	}
	for arch, cmdline := range Cmdlines() {
		if n := len(strings.Fields(cmdline)); n > 10 {
			t.Errorf("%s has %d words, and this table 10", arch, n)
		}
	}
	if !strings.Contains(string(config), "\nCONFIG_PANIC_ON_OOPS=y\n") {
		t.Error("the kernel goes on after an oops")
	}
}

// The same of a table; what is left out is AWS's own.
func TestImagePolicyOfDynamoDB(t *testing.T) {
	const table, id, region, endpoint = "--dynamodb-table", "--dynamodb-table-id", "--dynamodb-region", "--dynamodb-endpoint"
	all := []string{table, "marks", id, "0-1"}
	for _, tt := range []struct {
		args []string
		want policy.DynamoDB
		says string
	}{
		{nil, policy.DynamoDB{}, ""},
		{all, policy.DynamoDB{Table: "marks", TableID: "0-1", TableRegion: "eu-central-1", TableEndpoint: "dynamodb.eu-central-1.amazonaws.com:443"}, ""},
		{append(all[:4:4], region, "eu-west-1"), policy.DynamoDB{Table: "marks", TableID: "0-1", TableRegion: "eu-west-1", TableEndpoint: "dynamodb.eu-west-1.amazonaws.com:443"}, ""},
		{append(all[:4:4], endpoint, "vpce-1.dynamodb.eu-central-1.vpce.amazonaws.com"), policy.DynamoDB{Table: "marks", TableID: "0-1", TableRegion: "eu-central-1", TableEndpoint: "vpce-1.dynamodb.eu-central-1.vpce.amazonaws.com:443"}, ""},
		{all[2:], policy.DynamoDB{}, table + " TABLE is missing"},
		{all[:2], policy.DynamoDB{}, id + " ID is missing: `aws dynamodb describe-table --table-name marks`"},
		{append(all[:4:4], region, "europe"), policy.DynamoDB{}, region + ": \"europe\""},
		{append(all[:4:4], endpoint, "https://dynamodb.eu-central-1.amazonaws.com"), policy.DynamoDB{}, endpoint + ": \"https://"},
		{append(all[:4:4], endpoint, "localhost"), policy.DynamoDB{}, endpoint + ": \"localhost:443\" is not host:port of a DynamoDB: it is this host"},
		{[]string{table, "my marks", id, "0-1"}, policy.DynamoDB{}, table + ": \"my marks\""},
	} {
		cmd := NewImagePolicy()
		var out, said bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&said)
		cmd.SetArgs(append([]string{"--kms-key", "arn:aws:kms:eu-central-1:111122223333:key/1"}, tt.args...))
		err := cmd.Execute()
		if tt.says != "" {
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q: %v, not %q", tt.args, err, tt.says)
			}
			continue
		}
		p, parseErr := policy.Parse(out.Bytes(), policy.Nitro)
		if err != nil || parseErr != nil || p.DynamoDB != tt.want || said.Len() > 0 {
			t.Errorf("%q: %+v, %v, %v, %s", tt.args, p, err, parseErr, &said)
		}
	}
	p := &policy.Policy{KMSKey: "arn:aws:kms:eu-central-1:111122223333:key/1", KMSServerName: "kms.eu-central-1.amazonaws.com", TLSRoots: policy.AWSRoots(),
		DynamoDB: policy.DynamoDB{Table: "marks", TableRegion: "eu-central-1", TableEndpoint: "dynamodb.evil.example:443"}}
	if why := ForTests(p); len(why) != 1 || !strings.Contains(why[0], "a DynamoDB that is not known to be AWS's") {
		t.Errorf("%q", why)
	}
}
