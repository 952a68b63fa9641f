package image

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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
	cmd := NewImagePolicy()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs([]string{"--kms-key", "arn:aws:kms:eu-central-1:111122223333:key/00000000-1111-2222-3333-444444444444", "--tls-roots", path, "--attestation-root", path})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(out.Bytes(), policy.Nitro)
	if err != nil {
		t.Fatal(err)
	}
	if p.TLSRoots != policy.AWSRoots() || p.AttestationRoot != policy.AWSRoots() {
		t.Errorf("a root was dropped: %d and %d bytes", len(p.TLSRoots), len(p.AttestationRoot))
	}
}

// What is not the ARN of a key has no region, wherever KMS is.
func TestImagePolicyOfNoKey(t *testing.T) {
	cmd := NewImagePolicy()
	cmd.SetErr(io.Discard)
	cmd.SetArgs([]string{"--kms-key", "alias/validator", "--endpoint", "kms.example", "--dynamodb-table", "marks", "--dynamodb-table-id", "0-1"})
	if err := cmd.Execute(); err == nil || !strings.HasPrefix(err.Error(), `--kms-key: "alias/validator" is not the ARN of a key`) {
		t.Error(err)
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
// run without ours. What its words decide is decided by the kernel's configuration too, in
// nitro.config or in that of the architecture.
func TestNothingStandsOnTheCommandLineOnly(t *testing.T) {
	type in struct{ has, lacks string }
	both := map[string]in{
		"nomodules":           {"", "CONFIG_MODULES=y"},
		"reboot=k":            {"", ""}, // how it ends, not whether
		"console=ttyS0":       {"", ""}, // of debug mode
		"random.trust_cpu=on": {"CONFIG_HW_RANDOM=y", ""},
	}
	words := map[eif.Arch]map[string]in{
		eif.AMD64: {
			"pci=off":       {`CONFIG_CMDLINE="pci=off clocksource=kvm-clock"`, "CONFIG_VIRTIO_PCI=y"},
			"i8042.noaux":   {"", "CONFIG_SERIO_I8042=y"},
			"i8042.nomux":   {"", "CONFIG_SERIO_I8042=y"},
			"i8042.nopnp":   {"", "CONFIG_SERIO_I8042=y"},
			"i8042.dumbkbd": {"", "CONFIG_SERIO_I8042=y"},
		},
		eif.ARM64: {"pci=off": {"", "CONFIG_VIRTIO_PCI=y"}}, // it means nothing there
	}
	for arch, line := range Cmdlines() {
		var config []string
		for _, name := range []string{"nitro.config", fmt.Sprintf("nitro-%s.config", arch)} {
			text, err := os.ReadFile(filepath.Join("../../../../kernel", name))
			if err != nil {
				t.Fatal(err)
			}
			config = append(config, strings.Split(string(text), "\n")...)
		}
		// On no command line, but for kernels of others.
		for _, line := range []string{"CONFIG_PANIC_TIMEOUT=1", "CONFIG_PANIC_ON_OOPS=y"} {
			if !slices.Contains(config, line) {
				t.Errorf("%s: the kernel has no %s", arch, line)
			}
		}
		maps.Copy(words[arch], both)
		for word, instead := range words[arch] {
			if !slices.Contains(strings.Fields(line), word) {
				t.Errorf("%s is not on the command line of %s any more", word, arch)
			}
			if instead.has != "" && !slices.Contains(config, instead.has) {
				t.Errorf("%s: the kernel of %s has no %s", word, arch, instead.has)
			}
			if instead.lacks != "" && slices.Contains(config, instead.lacks) {
				t.Errorf("%s: the kernel of %s has %s", word, arch, instead.lacks)
			}
		}
		if n := len(strings.Fields(line)); n != len(words[arch]) {
			t.Errorf("%s has %d words, and this table %d", arch, n, len(words[arch]))
		}
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

// Images of an earlier release are ours. Where a kernel ends is still seen: no line that is
// accepted is what is left of another one.
func TestEarlierCommandLines(t *testing.T) {
	for arch, line := range earlierCmdlines() {
		p, err := policy.ForAWS("arn:aws:kms:eu-central-1:111122223333:key/1", false)
		if err != nil {
			t.Fatal(err)
		}
		second, err := PolicyRamdisk(p)
		if err != nil {
			t.Fatal(err)
		}
		first, err := eif.ProgramRamdisk([]byte("\x7fELF a program"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, cmdline := range []string{line, Cmdlines()[arch]} {
			im, err := eif.Build(eif.Source{Arch: arch, Kernel: []byte("kernel"), Cmdline: cmdline, Ramdisks: [][]byte{first, second}})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Policy(im); got == nil || err != nil {
				t.Errorf("%s, %q: not ours, %v", arch, cmdline, err)
			}
		}
		if a, b := line, Cmdlines()[arch]; strings.HasSuffix(a, b) || strings.HasSuffix(b, a) {
			t.Errorf("%s: %q and %q: one is the end of the other", arch, a, b)
		}
	}
}
