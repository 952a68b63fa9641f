package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	opsnitro "privyseal/internal/ops/nitro"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// newEnclaves makes an instance that can launch enclaves of the image that it returns,
// until the test ends.
func newEnclaves(t *testing.T) (image string) {
	t.Helper()
	if err := nitroSetup(t.Setenv, t.Cleanup); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writeNitroParts(dir); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	nitro := os.Getenv("NITRO")
	typed := func(args ...string) string {
		t.Helper()
		var out, failed bytes.Buffer
		if status := run(args, &out, &failed); status != 0 {
			t.Fatalf("%q: %d: %s", args, status, failed.String())
		}
		return out.String()
	}
	policy := typed("nitro", "image-policy", "--kms-key", kmsKeyARN, "--endpoint", os.Getenv("KMS"), "--server-name", kmsName,
		"--tls-roots", filepath.Join(nitro, "kms.pem"), "--attestation-root", filepath.Join(nitro, "root.pem"))
	if err := os.WriteFile(in("policy.json"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	typed("nitro", "build", "--kernel", in("bzImage"), "--program", in("program"), "--policy", in("policy.json"), "--out", in("a.eif"))
	return in("a.eif")
}

// enclaveArgs is an init of a chain whose node needs an identity.
func enclaveArgs(dir, image string) []string {
	return []string{"init", "--provider", "nitro", "--home", dir, "--eif", image, "--transport", os.Getenv("NITRO"),
		"--chain-id", "chain-1", "--node", "tcp://127.0.0.1:1"}
}

func initEnclave(dir, image string) (string, int) {
	var out bytes.Buffer
	status := run(enclaveArgs(dir, image), io.Discard, &out)
	return out.String(), status
}

// cutChain is a chain in an enclave whose installation was cut off.
type cutChain struct {
	config.Chain
	public  pubkey.Key
	wrapped []byte
}

// documentOf is where the document of a wrapped key is.
func documentOf(wrapped string) string {
	return strings.TrimSuffix(wrapped, ".wrapped") + ".attestation"
}

// cutOffEnclave does the first steps of an installation whose keys are made in an
// enclave, with what a whole one elsewhere has made: the note, key, identity, state, the
// word that the config may name them, the config.
func cutOffEnclave(t *testing.T, dir, image string, steps int) (*cutChain, watermark.Mark) {
	t.Helper()
	whole := filepath.Join(diskDir(t), "whole")
	if text, status := initEnclave(whole, image); status != 0 {
		t.Fatal(text)
	}
	c, err := build().House("").Kinds.Load(filepath.Join(whole, config.FileName))
	if err != nil {
		t.Fatal(err)
	}
	ch := &cutChain{Chain: c.Chains[0]}
	if ch.public, err = build().House("").Providers.Public(c, ch.Chain); err != nil {
		t.Fatal(err)
	}
	info, err := filestore.Inspect(stateFile(c.Path(ch.State), watermark.ID{ChainID: ch.ID, Key: ch.public.ID()}))
	if err != nil {
		t.Fatal(err)
	}
	files := func(wrapped string) (list []home.File) {
		for _, path := range []string{wrapped, documentOf(wrapped)} {
			data, err := os.ReadFile(c.Path(path))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, home.File{Path: path, Data: data})
		}
		return list
	}
	key, identity := files(ch.Key), files(ch.Identity)
	ch.wrapped = key[0].Data
	in, err := home.NewInstaller(build().House(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Undo.Folder(dir); err != nil {
		t.Fatal(err)
	}
	u := home.Making{Name: ch.Name, ChainID: ch.ID, State: ch.State, Files: append(key[:2:2], identity...)}
	u.Begin(info.Saved.Mark)
	u.PublicKey = json.RawMessage(ch.public.JSON())
	cutAt(t, in, steps,
		func(note *home.Note) error { return note.Write(u) },
		func(*home.Note) error { return in.AddFiles(key...) },
		func(*home.Note) error { return in.AddFiles(identity...) },
		func(*home.Note) error {
			return in.MakeState(ch.Chain, ch.public, watermark.Saved{Mark: info.Saved.Mark}, false)
		},
		(*home.Note).Named,
		func(*home.Note) error { return in.AddToConfig(c.Tables, ch.Chain) },
	)
	return ch, info.Saved.Mark
}

// As for software keys: after any step the next run goes on, and what a config may have
// named is kept.
func TestEnclaveInitGoesOnAfterACrash(t *testing.T) {
	image := newEnclaves(t)
	for steps := range 6 {
		dir := filepath.Join(diskDir(t), "home")
		ch, _ := cutOffEnclave(t, dir, image, steps)
		text, status := initEnclave(dir, image)
		if status != 0 {
			t.Fatalf("after %d steps: %d: %s", steps, status, text)
		}
		c, err := build().House("").Kinds.Load(filepath.Join(dir, config.FileName))
		if err != nil {
			t.Fatal(err)
		}
		public, err := build().House("").Providers.Public(c, c.Chains[0])
		if err != nil || public.Equal(ch.public) {
			t.Errorf("after %d steps: the key of the run that was cut off lives: %v, %v", steps, public, err)
		}
		if info, err := filestore.Inspect(stateFile(c.Path(c.Chains[0].State), watermark.ID{ChainID: "chain-1", Key: public.ID()})); err != nil || info.Problem != nil {
			t.Errorf("after %d steps: %v, %v", steps, err, info.Problem)
		}
		for _, path := range []string{ch.Key, documentOf(ch.Key), "identity.wrapped", "identity.attestation"} {
			aside := filepath.Join(dir, path+".unused")
			if kept := exists(aside); kept != (steps == 5) || kept != strings.Contains(text, "kept "+aside) {
				t.Errorf("after %d steps: %s kept %v: %s", steps, path, kept, text)
			}
		}
		aside, err := os.ReadFile(filepath.Join(dir, ch.Key+".unused"))
		if steps == 5 && (err != nil || !bytes.Equal(aside, ch.wrapped)) {
			t.Errorf("not the wrapped key: %v", err)
		}
		if exists(filepath.Join(dir, home.NoteName)) {
			t.Errorf("after %d steps: the note is still there", steps)
		}
	}
}

// Torn files of a wrapped key are no obstacle, other files at their place stay, and a
// wrapped key whose state has signed or which a config names is the last copy of it.
func TestEnclaveInitKeepsTheLastCopy(t *testing.T) {
	image := newEnclaves(t)
	for _, tt := range []struct {
		name  string
		steps int
		spoil func(t *testing.T, dir string, ch *cutChain, mark watermark.Mark)
		goes  bool
	}{
		{"torn", 4, func(t *testing.T, dir string, ch *cutChain, _ watermark.Mark) {
			for i, path := range []string{ch.Key, documentOf(ch.Key), ch.Identity, documentOf(ch.Identity)} {
				if err := os.Truncate(filepath.Join(dir, path), int64(17*i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Truncate(filepath.Join(dir, ch.Key), 4096); err != nil { // zeros
				t.Fatal(err)
			}
		}, true},
		{"somebody's", 4, func(t *testing.T, dir string, ch *cutChain, _ watermark.Mark) {
			if err := os.WriteFile(filepath.Join(dir, ch.Key), []byte("of another enclave"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"another record", 4, func(t *testing.T, dir string, ch *cutChain, mark watermark.Mark) {
			r, err := hostlink.ReadRecord(mark.SignBytes)
			if err != nil {
				t.Fatal(err)
			}
			later := watermark.Mark{Height: r.Mark.Height + 7, Step: watermark.StepPrecommit}
			id := watermark.ID{ChainID: "chain-1", Key: ch.public.ID()}
			if err := filestore.Raise(stateFile(filepath.Join(dir, ch.State), id), watermark.Saved{Mark: later}); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"named by a config", 4, func(t *testing.T, dir string, ch *cutChain, _ watermark.Mark) {
			other := ch.Chain
			other.Name, other.ID, other.State = "other", "other", "state/other.mark"
			other.Identity, other.Nodes, other.Table = "", []config.Node{{Name: "n", Addr: "unix:///n"}}, "main"
			c := build().House("").Kinds.New(other)
			c.Tables = map[string]map[string]config.Section{"enclave": {"main": &opsnitro.Enclave{EIF: image, Transport: os.Getenv("NITRO"), CPUCount: 2, NitroCLI: "nitro-cli"}}}
			if err := config.WriteNew(filepath.Join(dir, config.FileName), c); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(diskDir(t), "home")
			ch, mark := cutOffEnclave(t, dir, image, tt.steps)
			tt.spoil(t, dir, ch, mark)
			before, err := os.ReadFile(filepath.Join(dir, ch.Key))
			if err != nil {
				t.Fatal(err)
			}
			text, status := initEnclave(dir, image)
			if (status == 0) != tt.goes {
				t.Fatalf("%d: %s", status, text)
			}
			if after, err := os.ReadFile(filepath.Join(dir, ch.Key)); !tt.goes && (err != nil || !bytes.Equal(before, after)) {
				t.Errorf("the wrapped key is gone: %v", err)
			}
		})
	}
}

// The real program, killed wherever it is.
func TestEnclaveInitIsKilled(t *testing.T) {
	image := newEnclaves(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "privyseal")
	if err := os.Symlink(self, bin); err != nil {
		t.Fatal(err)
	}
	root := diskDir(t)
	if text, status := initEnclave(filepath.Join(root, "first"), image); status != 0 { // launches it
		t.Fatal(text)
	}
	began := time.Now()
	if text, status := initEnclave(filepath.Join(root, "second"), image); status != 0 {
		t.Fatal(text)
	}
	whole := time.Since(began)
	const kills = 12
	for i := range kills {
		dir := filepath.Join(root, "home", string(rune('a'+i)))
		ctx, cancel := context.WithTimeout(t.Context(), whole*time.Duration(i+1)/kills)
		_ = exec.CommandContext(ctx, bin, enclaveArgs(dir, image)...).Run() // killed, or done
		cancel()
		if text, status := initEnclave(dir, image); status != 0 && !strings.Contains(text, "is in "+filepath.Join(dir, config.FileName)+" already") {
			t.Fatalf("kill %d: %d: %s", i, status, text)
		}
		if text, _ := initEnclave(dir, image); !strings.Contains(text, "already") {
			t.Fatalf("kill %d, the second time: %s", i, text)
		}
	}
}
