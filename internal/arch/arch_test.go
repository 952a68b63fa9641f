// Package arch holds the architecture as a test: who may import what.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "privyseal"

// mayImport is the architecture diagram: each package of ours with what it may
// import beside the standard library. Arrows point down only. An entry ending
// in a slash allows all below it.
var mayImport = map[string]string{
	// The core, reviewed as one unit.
	"internal/watermark":  "",
	"internal/privval":    "google.golang.org/protobuf/encoding/protowire",
	"internal/secretconn": "golang.org/x/crypto/chacha20poly1305 github.com/gtank/merlin",
	"internal/noiseconn":  "github.com/flynn/noise golang.org/x/crypto/chacha20poly1305",
	"internal/signer":     "internal/privval internal/watermark",
	"internal/dial":       "",
	"internal/session":    "internal/dial internal/noiseconn internal/privval internal/secretconn",

	// The person at the terminal, and the memory that has secrets.
	"internal/terminal": "golang.org/x/sys/unix",
	"internal/harden":   "golang.org/x/sys/unix",

	// JSON of others, secrets, and command lines for operators.
	"internal/strictjson": "",
	"internal/shell":      "",
	"internal/spelling":   "",
	"internal/secret":     "",
	"internal/cure":       "internal/shell",
	// Files that are whole or not there.
	"internal/durable": "golang.org/x/sys/unix",
	"internal/regular": "internal/cure",
	// The note of a state that moves.
	"internal/movenote": "internal/durable internal/regular internal/strictjson internal/watermark",

	// Public keys, and keys: a room a provider.
	"internal/bech32": "",
	"internal/pubkey": "internal/strictjson filippo.io/edwards25519 github.com/cloudflare/circl/ github.com/decred/dcrd/dcrec/secp256k1/v4/ " +
		"github.com/decred/dcrd/dcrec/secp256k1/v4 golang.org/x/crypto/",
	"internal/pubkey/keytext": "internal/bech32 internal/noiseconn internal/pubkey internal/strictjson",
	"internal/key/soft": "internal/pubkey internal/strictjson filippo.io/edwards25519 github.com/cloudflare/circl/ github.com/decred/dcrd/dcrec/secp256k1/v4/ " +
		"github.com/decred/dcrd/dcrec/secp256k1/v4 golang.org/x/crypto/",

	"internal/key/soft/keyfile": "internal/cure internal/durable internal/key/soft internal/pubkey internal/regular",

	"internal/key/reference": "internal/pubkey internal/regular",

	"internal/key/vault": "internal/dial internal/key/reference internal/regular internal/pubkey internal/shell internal/strictjson",

	// The protocol of the YubiHSM 2, for other programs too.
	"yubihsm":                "yubihsm/internal/usbfs",
	"yubihsm/internal/usbfs": "",
	"internal/key/yubihsm":   "internal/cure internal/key/reference internal/key/yubihsm/auditlog internal/pubkey yubihsm",

	// What a YubiHSM has logged, in files.
	"internal/key/yubihsm/auditlog": "internal/cure internal/durable internal/regular yubihsm",

	// What an operator does to one without it: words, backups, certificates.
	"internal/key/yubihsm/words":     "internal/bech32 internal/spelling",
	"internal/key/yubihsm/provision": "internal/key/yubihsm/backup internal/key/yubihsm/words yubihsm",
	"internal/key/yubihsm/backup":    "internal/key/soft internal/pubkey yubihsm github.com/decred/dcrd/dcrec/secp256k1/v4",

	// Stores.
	"internal/filestore":  "internal/shell internal/watermark golang.org/x/sys/unix",
	"internal/sharedmark": "internal/watermark",

	// One member of an etcd cluster; linked into the enclave.
	"internal/etcd": "golang.org/x/net/http2/hpack google.golang.org/protobuf/encoding/protowire",

	// A shared mark in all of them.
	"internal/etcdstore":   "internal/etcd internal/sharedmark internal/watermark",
	"internal/dynamostore": "internal/awsjson internal/dial internal/secret internal/sharedmark internal/strictjson internal/watermark",

	// Across the wall of an enclave.
	"internal/hostlink": "internal/secret internal/strictjson internal/watermark",
	"internal/policy":   "internal/awsjson internal/pubkey internal/watermark",
	"internal/claims":   "",
	// What a verifier makes of it, of every kind of enclave.
	"internal/statement": "internal/claims internal/pubkey internal/pubkey/keytext internal/watermark",
	"internal/vsock":     "golang.org/x/sys/unix",
	"internal/looplink":  "internal/vsock",

	// Attestation and images: those who verify and those who produce never import
	// each other.
	"internal/nitro":     "github.com/fxamacker/cbor/v2",
	"internal/nitro/nsm": "golang.org/x/sys/unix",
	"internal/yubico":    "",
	"internal/sgx":       "internal/strictjson",
	// Linked into the enclave.
	"internal/sgx/document":  "",
	"internal/sgx/gramine":   "",
	"internal/sgx/sigstruct": "",
	"internal/eif":           "github.com/fxamacker/cbor/v2",
	"internal/awspolicy":     "internal/nitro internal/strictjson",

	// Programs: what runs inside an enclave, and what runs outside of it.
	"internal/awsjson":      "internal/secret internal/strictjson",
	"internal/key/nitrokms": "internal/awsjson internal/claims internal/secret internal/strictjson",
	"internal/kwp":          "",
	"internal/key/sgxseal":  "internal/claims internal/kwp internal/policy internal/secret",
	"internal/enclave": "internal/claims internal/hostlink internal/key/soft internal/oplog internal/policy internal/privval internal/pubkey " +
		"internal/secret internal/session internal/sharedmark internal/signer internal/watermark",
	"internal/enclave/engines": "internal/dynamostore internal/enclave internal/etcd internal/etcdstore internal/sharedmark",
	"internal/enclave/nitro":   "internal/claims internal/enclave internal/enclave/engines internal/hostlink internal/key/nitrokms internal/nitro/nsm internal/policy internal/secret internal/vsock golang.org/x/sys/unix",
	"internal/enclave/sgx":     "internal/enclave internal/enclave/engines internal/key/sgxseal internal/looplink internal/policy internal/sgx/document internal/sgx/gramine",
	"internal/enclavehost":     "internal/cure internal/dial internal/hostlink internal/oplog internal/policy internal/secret internal/vsock internal/watermark",
	"internal/nitrohost":       "internal/strictjson",
	"internal/sgxhost":         "internal/cure internal/enclavehost internal/looplink internal/oplog internal/shell internal/vsock",
	"internal/awscredentials":  "internal/secret github.com/aws/aws-sdk-go-v2/",
	"cmd/privyseal-enclave":    "internal/enclave/nitro",
	"cmd/privyseal-sgx":        "internal/enclave/sgx",

	// The operator's side. It comes after the core and is not trusted by it.
	"internal/witness":          "internal/regular internal/durable internal/privval internal/strictjson internal/watermark",
	"internal/config":           "internal/regular internal/spelling internal/witness internal/cure internal/durable internal/secret internal/session internal/watermark github.com/pelletier/go-toml/v2 github.com/pelletier/go-toml/v2/",
	"internal/gcmsiv":           "",
	"internal/migrate/lightsgx": "internal/cure internal/gcmsiv internal/key/soft internal/kwp internal/pubkey internal/regular internal/strictjson",
	"internal/migrate":          "internal/regular internal/cure internal/key/soft internal/key/soft/keyfile internal/migrate/lightsgx internal/privval internal/pubkey internal/secret internal/session internal/shell internal/strictjson internal/watermark github.com/pelletier/go-toml/v2 go.yaml.in/yaml/v3",
	"internal/daemon": "internal/cli internal/config internal/cure internal/harden internal/monitor internal/oplog internal/privval internal/provider internal/pubkey internal/session " +
		"internal/signer internal/watermark internal/witness",
	"internal/home": "internal/regular internal/cli internal/config internal/cure internal/durable internal/key/soft internal/key/soft/keyfile internal/migrate internal/provider internal/pubkey internal/pubkey/keytext internal/session " +
		"internal/shell internal/strictjson internal/watermark internal/witness github.com/spf13/cobra golang.org/x/sys/unix",
	"internal/cli":   "internal/config internal/cure internal/durable internal/pubkey internal/pubkey/keytext internal/shell internal/spelling github.com/spf13/cobra github.com/spf13/pflag",
	"internal/oplog": "",
	// The flags of what a measured policy says, for all kinds of enclaves.
	"internal/policyflags": "internal/cli internal/config internal/policy internal/pubkey/keytext github.com/spf13/pflag",
	// The contract of those who hold keys; the rooms below internal/ops fulfil it.
	"internal/provider": "internal/cli internal/config internal/cure internal/key/soft internal/key/soft/keyfile internal/movenote internal/pubkey internal/secret internal/watermark github.com/spf13/pflag",
	"internal/monitor":  "internal/cure internal/witness internal/hostlink internal/oplog internal/privval internal/session internal/signer internal/watermark github.com/prometheus/client_golang/ github.com/prometheus/client_model/go",

	"internal/ops/vault": "internal/cli internal/config internal/cure internal/home internal/key/soft internal/key/soft/keyfile internal/key/vault internal/oplog internal/provider internal/pubkey github.com/spf13/cobra " +
		"github.com/spf13/pflag",
	// Above reach its rooms do not know each other; internal/ops/yubihsm puts their commands together.
	"internal/ops/yubihsm": "internal/cli internal/config internal/cure internal/home internal/key/soft internal/key/soft/keyfile internal/key/yubihsm internal/migrate internal/oplog internal/ops/yubihsm/audit internal/ops/yubihsm/keys internal/ops/yubihsm/reach internal/ops/yubihsm/setup internal/ops/yubihsm/verify internal/ops/yubihsm/wrapped " +
		"internal/provider internal/pubkey internal/regular internal/shell internal/yubico yubihsm github.com/spf13/cobra github.com/spf13/pflag",
	"internal/ops/yubihsm/reach": "internal/cli internal/config internal/cure internal/dial internal/key/yubihsm internal/provider internal/pubkey internal/regular internal/secret yubihsm github.com/spf13/cobra",
	"internal/ops/yubihsm/setup": "internal/cli internal/cure internal/durable internal/harden internal/key/yubihsm/provision internal/key/yubihsm/words internal/ops/yubihsm/reach " +
		"internal/provider internal/regular internal/secret internal/shell internal/terminal yubihsm github.com/spf13/cobra golang.org/x/sys/unix",
	"internal/ops/yubihsm/audit":   "internal/cli internal/cure internal/key/yubihsm internal/key/yubihsm/auditlog internal/ops/yubihsm/reach yubihsm github.com/spf13/cobra",
	"internal/ops/yubihsm/wrapped": "internal/cli internal/cure internal/key/yubihsm internal/key/yubihsm/backup internal/ops/yubihsm/reach internal/pubkey internal/pubkey/keytext internal/regular yubihsm github.com/spf13/cobra",
	"internal/ops/yubihsm/keys":    "internal/cli internal/cure internal/key/soft internal/key/soft/keyfile internal/key/yubihsm internal/ops/yubihsm/reach internal/ops/yubihsm/verify internal/pubkey internal/yubico yubihsm github.com/spf13/cobra",
	"internal/ops/yubihsm/verify":  "internal/cli internal/cure internal/home internal/pubkey internal/pubkey/keytext internal/yubico yubihsm github.com/spf13/cobra github.com/spf13/pflag",

	// An enclave as the operator meets it, whatever the TEE: above these rooms there is one for
	// each kind.
	"internal/enclaveask":           "internal/enclavehost internal/hostlink internal/vsock",
	"internal/enclavechain":         "internal/config internal/daemon internal/enclavechain/sharing internal/enclavefile internal/enclavehost internal/hostlink internal/monitor internal/policy internal/provider internal/pubkey internal/session internal/signer internal/watermark internal/witness",
	"internal/enclavechain/sharing": "internal/config internal/enclavehost internal/hostlink internal/policy internal/provider internal/regular internal/sharedmark internal/sharedstate internal/shell internal/vsock internal/watermark",
	"internal/enclavefile":          "internal/cli internal/config internal/cure internal/policy internal/pubkey internal/regular internal/shell",
	"internal/enclavekey":           "internal/claims internal/config internal/home internal/hostlink internal/pubkey internal/watermark",
	"internal/enclavecommand": "internal/cli internal/config internal/cure internal/enclavekey internal/home internal/hostlink internal/monitor internal/provider internal/pubkey internal/pubkey/keytext internal/watermark " +
		"github.com/spf13/cobra github.com/spf13/pflag",

	"internal/ops/nitro": "internal/awscredentials internal/claims internal/cli internal/config internal/daemon internal/eif internal/enclaveask internal/enclavechain internal/enclavechain/sharing internal/enclavecommand " +
		"internal/enclavefile internal/enclavehost internal/enclavekey internal/home internal/hostlink internal/key/nitrokms internal/key/soft internal/migrate internal/monitor internal/nitro internal/nitrohost internal/ops/nitro/capture internal/ops/nitro/image " +
		"internal/ops/nitro/seal internal/ops/nitro/verify internal/policy internal/provider internal/pubkey internal/pubkey/keytext internal/secret internal/sharedstate internal/shell internal/vsock internal/watermark " +
		"github.com/spf13/cobra",

	"internal/ops/nitro/image": "internal/awspolicy internal/cli internal/config internal/cure internal/eif internal/key/nitrokms internal/policy internal/policyflags internal/pubkey/keytext github.com/spf13/cobra " +
		"github.com/spf13/pflag",

	"internal/ops/nitro/capture": "internal/cli internal/durable internal/hostlink internal/monitor internal/nitrohost internal/provider github.com/spf13/cobra",

	"internal/ops/nitro/seal": "internal/claims internal/cli internal/config internal/home internal/hostlink internal/key/soft/keyfile internal/ops/nitro/verify " +
		"internal/provider internal/pubkey internal/shell internal/watermark github.com/spf13/cobra",

	"internal/ops/nitro/verify": "internal/awspolicy internal/claims internal/cli internal/eif internal/home internal/nitro internal/ops/nitro/image internal/policy " +
		"internal/pubkey internal/statement internal/strictjson github.com/spf13/cobra",

	"internal/ops/sgx": "internal/claims internal/cli internal/config internal/cure internal/daemon internal/durable internal/enclaveask internal/enclavechain internal/enclavechain/sharing internal/enclavecommand " +
		"internal/enclavefile internal/enclavehost internal/enclavekey internal/home internal/hostlink internal/key/sgxseal internal/key/soft internal/ops/sgx/collateral internal/ops/sgx/manifest internal/ops/sgx/measure internal/ops/sgx/recovery internal/ops/sgx/verify " +
		"internal/policy internal/provider internal/pubkey internal/pubkey/keytext internal/regular internal/sgx internal/sgx/document internal/sgx/sigstruct internal/sgxhost internal/sharedstate internal/shell internal/watermark github.com/spf13/cobra",
	"internal/ops/sgx/recovery": "internal/claims internal/cli internal/config internal/cure internal/harden internal/home internal/hostlink internal/key/sgxseal internal/key/soft internal/key/soft/keyfile internal/kwp internal/migrate/lightsgx " +
		"internal/policy internal/provider internal/pubkey internal/regular internal/secret internal/sgx/document internal/shell internal/strictjson internal/watermark github.com/spf13/cobra github.com/spf13/pflag",
	"internal/ops/sgx/manifest":   "internal/cli internal/durable internal/looplink internal/ops/sgx/recovery internal/policy internal/policyflags internal/sgxhost internal/shell github.com/spf13/cobra",
	"internal/ops/sgx/measure":    "internal/cli internal/sgx/sigstruct github.com/spf13/cobra",
	"internal/ops/sgx/collateral": "internal/cli internal/cure internal/durable internal/regular internal/sgx internal/sgx/document internal/strictjson github.com/spf13/cobra",
	"internal/ops/sgx/verify":     "internal/claims internal/cli internal/cure internal/home internal/sgx internal/sgx/document internal/sgx/sigstruct internal/statement github.com/spf13/cobra",

	"internal/ops/soft": "internal/config internal/home internal/key/soft internal/key/soft/keyfile internal/provider internal/pubkey",

	"internal/command/verify": "internal/cli internal/home internal/pubkey/keytext github.com/spf13/cobra github.com/spf13/pflag",

	"internal/command": "internal/cli internal/command/check internal/command/look internal/command/screen internal/command/state internal/command/status internal/command/verify " +
		"internal/config internal/cure internal/daemon internal/home internal/key/soft internal/key/soft/keyfile internal/migrate " +
		"internal/provider internal/pubkey internal/pubkey/keytext internal/session internal/shell internal/spelling internal/watermark internal/witness github.com/spf13/cobra github.com/spf13/pflag",

	"internal/command/screen": "golang.org/x/sys/unix",
	"internal/command/look":   "internal/config internal/cure internal/daemon internal/provider internal/witness",
	"internal/command/status": "internal/cli internal/command/screen internal/config internal/cure internal/monitor internal/provider internal/session internal/witness github.com/spf13/cobra",
	"internal/command/check": "internal/cli internal/command/look internal/command/screen internal/command/status internal/config internal/cure internal/home internal/monitor " +
		"internal/provider internal/pubkey internal/session internal/shell internal/watermark internal/witness github.com/spf13/cobra golang.org/x/sys/unix",

	"internal/command/state": "internal/cli internal/config internal/cure internal/durable internal/home internal/movenote internal/privval internal/provider internal/pubkey internal/shell internal/watermark github.com/spf13/cobra github.com/spf13/pflag",

	"internal/ops/file": "internal/filestore internal/provider internal/shell internal/watermark",
	// A state that several hosts share: what the rooms of such stores have in common.
	"internal/sharedstate":  "internal/cure internal/filestore internal/provider internal/sharedmark internal/shell internal/watermark",
	"internal/ops/dynamodb": "internal/awscredentials internal/cli internal/config internal/cure internal/dynamostore internal/provider internal/secret internal/sharedmark internal/sharedstate internal/watermark github.com/spf13/pflag",
	"internal/ops/etcd":     "internal/cli internal/config internal/cure internal/dial internal/etcd internal/etcdstore internal/provider internal/regular internal/sharedmark internal/sharedstate internal/watermark github.com/spf13/pflag",

	"cmd/privyseal": "internal/cli internal/command internal/config internal/daemon internal/home internal/migrate internal/ops/ internal/provider",

	// Public: what other programs link, by a name at the module's root.
	"aiakos": "internal/cli internal/config internal/daemon internal/key/soft/keyfile internal/key/yubihsm internal/oplog internal/ops/file internal/ops/soft internal/ops/vault internal/ops/yubihsm internal/privval " +
		"internal/provider internal/pubkey yubihsm",

	// For tests only; no program links these.
	"internal/ops/nitro/nitrotest":         "internal/eif internal/nitro internal/ops/nitro/image internal/policy github.com/fxamacker/cbor/v2",
	"internal/command/screen/screentest":   "internal/command/screen github.com/google/go-cmp/cmp",
	"internal/watermark/storetest":         "internal/watermark",
	"internal/sharedmark/enginetest":       "internal/filestore internal/filestore/filestoretest internal/sharedmark internal/watermark internal/watermark/storetest",
	"internal/filestore/filestoretest":     "internal/filestore internal/watermark",
	"internal/terminal/terminaltest":       "golang.org/x/sys/unix",
	"internal/key/nitrokms/kmstest":        "",
	"internal/sgx/sgxtest":                 "",
	"internal/nitrohost/nitrohosttest":     "",
	"internal/key/vault/vaulttest":         "",
	"internal/dynamostore/dynamotest":      "",
	"internal/etcd/etcdtest":               "golang.org/x/net/http2/hpack",
	"internal/key/yubihsm/yubihsmtest":     "filippo.io/edwards25519 github.com/decred/dcrd/dcrec/secp256k1/v4 github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa",
	"internal/ops/yubihsm/setup/setuptest": "internal/terminal/terminaltest",
	"internal/ops/yubihsm/reachtest": "internal/cli internal/config internal/cure internal/key/soft internal/key/soft/keyfile internal/key/yubihsm internal/key/yubihsm/yubihsmtest internal/ops/yubihsm/reach internal/provider " +
		"internal/pubkey github.com/spf13/cobra",
	"internal/privval/privvaltest": "internal/privval google.golang.org/protobuf/encoding/protowire",
}

// testOnly are packages that production code must not import.
var testOnly = []string{"testing", module + "/internal/filestore/filestoretest", module + "/internal/command/screen/screentest", module + "/internal/watermark/storetest", module + "/internal/privval/privvaltest", module + "/internal/key/nitrokms/kmstest", module + "/internal/sgx/sgxtest", module + "/internal/key/vault/vaulttest", module + "/internal/etcd/etcdtest",
	module + "/internal/ops/nitro/nitrotest", module + "/internal/nitrohost/nitrohosttest", module + "/internal/key/yubihsm/yubihsmtest", module + "/internal/terminal/terminaltest",
	module + "/internal/ops/yubihsm/reachtest", module + "/internal/terminal/terminaltest",
	module + "/internal/ops/yubihsm/setup/setuptest",
	module + "/internal/sharedmark/enginetest"}

// unsafeIoctl are the packages that hand a struct to the kernel by its address.
var unsafeIoctl = []string{"yubihsm/internal/usbfs", "internal/nitro/nsm", "internal/enclave/nitro"}

// outside are folders that no program links: what is in them may import anything.
var outside = []string{"test"}

func TestImports(t *testing.T) {
	root := os.DirFS("../..")
	seen, used := map[string]bool{}, map[string]bool{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains(outside, name) || strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		pkg := path.Dir(name)
		seen[pkg] = true
		allowed, known := mayImport[pkg]
		if !known {
			t.Errorf("%s: package %s has no entry in mayImport: which room is it?", name, pkg)
			return nil
		}
		for _, imp := range imports(t, filepath.Join("../..", name)) {
			if !isAllowed(pkg, imp, strings.Fields(allowed)) {
				t.Errorf("%s imports %s, which %s may not", name, imp, pkg)
			}
			for _, a := range strings.Fields(allowed) {
				if names(a, imp) {
					used[pkg+" "+a] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range slices.Sorted(maps.Keys(mayImport)) {
		if !seen[pkg] {
			t.Errorf("mayImport has an entry for %s, which does not exist", pkg)
		}
		for _, allowed := range strings.Fields(mayImport[pkg]) {
			if !used[pkg+" "+allowed] {
				t.Errorf("mayImport lets %s import %s, which it does not", pkg, allowed)
			}
		}
	}
}

func imports(t *testing.T, file string) (list []string) {
	t.Helper()
	// In process, so that the test cache notices when a file changes.
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, imp)
	}
	return list
}

func isAllowed(pkg, imp string, allowed []string) bool {
	isTestPackage := strings.HasSuffix(pkg, "test")
	if slices.Contains(testOnly, imp) {
		return isTestPackage && (imp == "testing" || slices.Contains(allowed, strings.TrimPrefix(imp, module+"/")))
	}
	if imp == "unsafe" {
		return slices.Contains(unsafeIoctl, pkg)
	}
	if imp == "C" || imp == "reflect" {
		return false
	}
	first, _, _ := strings.Cut(imp, "/")
	if first != module && !strings.Contains(first, ".") {
		return true // standard library
	}
	return slices.ContainsFunc(allowed, func(a string) bool { return names(a, imp) })
}

// names reports whether an entry of mayImport names an import.
func names(entry, imp string) bool {
	imp = strings.TrimPrefix(imp, module+"/")
	return entry == imp || strings.HasSuffix(entry, "/") && strings.HasPrefix(imp, entry)
}

// storeRooms are the stores, each with the rooms that may import it.
var storeRooms = map[string][]string{
	"internal/filestore":   {"internal/ops/file", "internal/sharedstate", "internal/sharedmark/enginetest"}, // the last two: a floor
	"internal/sharedmark":  {"internal/sharedstate", "internal/etcdstore", "internal/dynamostore", "internal/ops/etcd", "internal/ops/dynamodb", "internal/enclave", "internal/enclave/engines", "internal/enclavechain/sharing"},
	"internal/etcdstore":   {"internal/ops/etcd", "internal/enclave/engines"},
	"internal/dynamostore": {"internal/ops/dynamodb", "internal/enclave/engines"},
}

// A store is met through the contract, by all but its own room and what tests have of it.
func TestStoresHaveRooms(t *testing.T) {
	for store, rooms := range storeRooms {
		for pkg, allowed := range mayImport {
			if strings.HasPrefix(pkg, store+"/") {
				continue
			}
			if imports := slices.Contains(strings.Fields(allowed), store); imports != slices.Contains(rooms, pkg) {
				t.Errorf("%s may import %s: %v, and its rooms are %s", pkg, store, imports, rooms)
			}
		}
	}
}

// TestRulesBite shows that the rules refuse what they are made to refuse.
func TestRulesBite(t *testing.T) {
	core := strings.Fields(mayImport["internal/signer"])
	for _, imp := range []string{
		"privyseal/internal/filestore", "privyseal/internal/key/soft", "github.com/spf13/cobra",
		"privyseal/internal/watermark/storetest", "testing", "reflect", "C",
	} {
		if isAllowed("internal/signer", imp, core) {
			t.Errorf("the core may import %s", imp)
		}
	}
	for _, imp := range []string{"context", "crypto/ed25519", "privyseal/internal/watermark"} {
		if !isAllowed("internal/signer", imp, core) {
			t.Errorf("the core may not import %s", imp)
		}
	}
}
