package operator

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
)

// Stories in which hosts share a state in a database. All of those in etcd happen in one cluster,
// each below a prefix of its own, and all of those in a table of DynamoDB in one, each with a key
// of its own.

// shared is the part of the database that a story has.
type shared struct {
	c      *etcdtest.Cluster
	prefix string
	table  *dynamotest.Stub // in the place of a cluster, or beside it
	// kept are values that were there once, by the story's names, and items.
	kept  map[string][]byte
	items map[string]dynamotest.Item

	// own says that the cluster is this story's alone, with its snapshots.
	own       testing.TB
	snapshots map[string]string
	restored  int
}

// inEtcd is a story's part of a cluster.
func inEtcd(c *etcdtest.Cluster) *shared {
	return &shared{c: c, prefix: c.Prefix(), kept: map[string][]byte{}, snapshots: map[string]string{}}
}

// inTable is a story's part of a table.
func inTable(table *dynamotest.Stub) *shared {
	return &shared{table: table, items: map[string]dynamotest.Item{}}
}

// store is what configs call it. A story that has both says which one it means, and else means etcd.
func (s *shared) store(said string) string {
	if s.c == nil || said == "dynamodb" {
		return "dynamodb"
	}
	return "etcd"
}

// environ is what a program finds in its environment, where roots is a file with the certificate of
// the table's server.
func (s *shared) environ(roots string) []string {
	if s == nil || s.table == nil {
		return nil
	}
	return []string{"SSL_CERT_FILE=" + roots, "SSL_CERT_DIR=/nowhere", "AWS_ACCESS_KEY_ID=AKIATEST", "AWS_SECRET_ACCESS_KEY=s3cr3t", "AWS_EC2_METADATA_DISABLED=true"}
}

// writeRoots writes that file.
func (s *shared) writeRoots(path string) error {
	if s == nil || s.table == nil {
		return nil
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.table.Certificate().Raw}), 0o600)
}

// flags name the database of a store, for a home whose config does not.
func (s *shared) flags(store string) (flags []string) {
	if store == "dynamodb" {
		return []string{"--dynamodb-table", dynamotest.Table, "--dynamodb-region", "eu-central-1", "--dynamodb-endpoint", s.table.URL, "--dynamodb-try", "2s"}
	}
	for _, e := range s.c.Endpoints() {
		flags = append(flags, "--etcd-endpoints", e)
	}
	of := s.c.Signer
	return append(flags, "--etcd-ca-file", of.CA, "--etcd-certificate-file", of.Certificate, "--etcd-key-file", of.Key, "--etcd-prefix", s.prefix)
}

// shares reports whether a home's state is in a database, by its config.
func (h *home) shares() bool { return h.store() != "file" }

func (h *home) config() string {
	text, _ := os.ReadFile(filepath.Join(h.dir, "privyseal.toml"))
	return string(text)
}

func (h *home) store() string {
	config := h.config()
	for _, store := range []string{"etcd", "dynamodb"} {
		if strings.Contains(config, "\nstore = \""+store+"\"\n") {
			return store
		}
	}
	return "file"
}

// sharers calls do for every other home whose state is in the database.
func (w *world) sharers(but *home, do func(*home)) {
	for _, h := range w.homes {
		if h != but && h.shares() {
			do(h)
		}
	}
}

// found makes the state in etcd, with the key that was imported into a home of its own.
func found(w *world, h *home, args []string) error {
	if h.exists() || w.key == nil || w.shared == nil {
		return nil
	}
	line := append(w.importKey(h), append([]string{"--store", w.shared.store("")}, w.shared.flags(w.shared.store(""))...)...)
	if err := w.command(h, nil, append(line, beginning(args)...)...); err != nil {
		return err
	}
	return w.settled(h)
}

// join has a home share the state: one that is new, or one whose config names it already.
func join(w *world, h *home, words []string) error {
	if w.key == nil || w.shared == nil {
		return nil
	}
	if h.exists() {
		return w.command(h, words, "state", "join")
	}
	line := append(w.importKey(h), append([]string{"--store", w.shared.store(""), "--join-state"}, w.shared.flags(w.shared.store(""))...)...)
	if err := w.command(h, words, line...); err != nil {
		return err
	}
	return w.settled(h)
}

func (w *world) importKey(h *home) []string {
	return []string{"init", "--chain-id", chainID, "--node", "unix://" + w.socket(h.name), "--import-key", w.filePV.keyFile()}
}

// moveTo moves the state of a home to another store: STORE, and for a number of thousandths
// of three `state show`, after which the command is killed, and typed again.
func moveTo(w *world, h *home, args []string) error {
	if !h.exists() || w.shared == nil {
		return nil
	}
	h.before = h.config()
	from, sound := h.store(), h.sound && h.signer == nil && !w.runsOn(h.name[0])
	to := args[0]
	if to != "file" {
		to = w.shared.store(to)
	}
	table := "[" + to + ".main]"
	line := []string{"state", "move", "--to", to}
	if to != "file" && !strings.Contains(h.config(), table) {
		line = append(line, w.shared.flags(to)...)
	}
	about := ""
	if len(args) > 1 {
		thousandths, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		if about, err = w.cutOff(h, line, thousandths); err != nil {
			return err
		}
		if w.last.status != 0 && strings.Contains(h.config(), table) {
			line = line[:4]
		}
	}
	if w.last.args == nil || w.last.status != 0 {
		if err := w.commandAfter(about, h, []string{"--export-unused"}, line...); err != nil {
			return err
		}
	}
	if h.store() == to && from != to {
		w.movedTo(h, from)
		w.last.status = 0 // a kill may have come after all was done
		return w.alive(h, true, about+w.last.output)
	}
	if sound && from != to && (from == "file" || to == "file") {
		return fmt.Errorf("%s: nothing was done to it, and its state does not move to %s:\n%s", h.name, to, w.last.output)
	}
	return nil
}

// inDatabase are the lines of a chain whose state is in a database.
var inDatabase = regexp.MustCompile(`(?m)^(store|etcd|dynamodb) = .*\n`)

// oldConfig changes the config of a home back by hand, so that its chain names the store that
// the state had before it moved. The table of the database stays.
func oldConfig(w *world, h *home, _ []string) error {
	if !h.exists() || h.before == "" || h.signer != nil { // it reads the config as it starts
		return nil
	}
	config := h.before
	if h.shares() {
		config = inDatabase.ReplaceAllString(h.config(), "")
	}
	if config == h.config() {
		return nil
	}
	h.sound, w.byHand = false, true
	return os.WriteFile(filepath.Join(h.dir, "privyseal.toml"), []byte(config), 0o600)
}

// movedTo notes that the state of a home went to another store than from.
func (w *world) movedTo(h *home, from string) {
	if from != "file" {
		w.sharers(h, func(o *home) { o.sound = false; w.oracle.ended(o.name) })
	}
}

// cutOff types a command without a word and, if it wants one, with --yes, and kills it. It
// returns what was printed before.
func (w *world) cutOff(h *home, line []string, thousandths int) (about string, err error) {
	began := time.Now()
	if err := w.privyseal(h, "state", "show"); err != nil {
		return "", err
	}
	after := 3 * time.Since(began) * time.Duration(thousandths) / 1000
	if err := w.privyseal(h, line...); err != nil || w.last.status != statusAct {
		return "", err
	}
	about = w.last.output
	args := append(slices.Clone(line), "--yes", "--export-unused", "--home", h.dir)
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = w.dir, w.environ(h.name[0])
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return "", err
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Signal(syscall.SIGKILL) })
	err = cmd.Wait()
	timer.Stop()
	return about + output.String(), w.ended(args, cmd, err, output.String())
}

// The value in the database, as root of the cluster sees it, or who has all rights for the table.

// keep remembers what is there, under a name; back puts it there again, as somebody does who
// has a dump of the values.
func keep(w *world, args []string) error {
	if w.shared != nil && w.shared.c == nil {
		return w.atKey(func(key string) {
			if item, found := w.shared.table.Backup()[key]; found {
				w.shared.items[args[0]] = item
			}
		})
	}
	return w.value(func(ctx context.Context, c *etcd.Conn, key string, now etcd.Range) error {
		if now.Value.Modified != 0 {
			w.shared.kept[args[0]] = now.Value.Bytes
		}
		return nil
	})
}

func putBack(w *world, args []string) error {
	if w.shared != nil && w.shared.c == nil && w.shared.items[args[0]] != nil {
		return w.atKey(func(key string) {
			w.shared.table.Put(key, w.shared.items[args[0]])
			w.setBack()
		})
	}
	if w.shared == nil || w.shared.kept[args[0]] == nil {
		return nil
	}
	return w.value(func(ctx context.Context, c *etcd.Conn, key string, now etcd.Range) error {
		if bytes.Equal(now.Value.Bytes, w.shared.kept[args[0]]) {
			return nil
		}
		_, err := c.Txn(ctx, etcd.Txn{Key: key, Old: now.Value.Bytes, Revision: now.Value.Modified, New: w.shared.kept[args[0]]})
		w.setBack()
		return err
	})
}

// snapshot has the cluster write one, under a name; restore has all of its members begin again with
// it, as the cluster that it was. Both are for a story with a cluster of its own.
func snapshot(w *world, args []string) error {
	if w.shared != nil && w.shared.own != nil {
		w.shared.snapshots[args[0]] = w.shared.c.Snapshot(w.shared.own)
	}
	return nil
}

func restore(w *world, args []string) error {
	if w.shared == nil || w.shared.own == nil || w.shared.snapshots[args[0]] == "" {
		return nil
	}
	w.shared.c.Restore(w.shared.own, w.shared.snapshots[args[0]], etcdtest.Restored{})
	w.shared.restored++
	w.setBack()
	return nil
}

// setBack notes that the database has an older value than it had.
func (w *world) setBack() {
	w.oracle.setBack = true
	for _, h := range w.homes {
		h.sound = false
	}
}

var keyShown = regexp.MustCompile(`etcd main, (/\S+)|dynamodb main, .*, (\S+/[0-9a-f]{64})`)

// atKey hands the key of the story's value to do, as a home shows it that has its state there.
func (w *world) atKey(do func(key string)) error {
	before := w.last
	defer func() { w.last = before }()
	for _, name := range w.names {
		h := w.homes[name]
		if !h.shares() {
			continue
		}
		if err := w.privyseal(h, "state", "show"); err != nil {
			return err
		}
		if found := keyShown.FindStringSubmatch(w.last.output); found != nil {
			do(found[1] + found[2])
			return nil
		}
	}
	return nil
}

// value reads the value of the story's key in etcd, and hands it to do.
func (w *world) value(do func(ctx context.Context, c *etcd.Conn, key string, now etcd.Range) error) (err error) {
	if w.shared == nil || w.shared.c == nil {
		return nil
	}
	return errors.Join(w.atKey(func(key string) {
		err = w.shared.asRoot(func(ctx context.Context, c *etcd.Conn) error {
			now, err := c.Range(ctx, key, 0)
			if err != nil {
				return err
			}
			return do(ctx, c, key, now)
		})
	}), err)
}

func (s *shared) asRoot(do func(context.Context, *etcd.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := (&etcd.Dialer{TLS: s.c.Root.Config}).Dial(ctx, s.c.Endpoints()[0])
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, c), c.Close())
}

// printed are the commands of a shell that a text has in it.
var printed = regexp.MustCompile("`((?:privyseal|mv|chmod) [^`]*)`")

// elsewhere is said where the way on is not in this home: it is in the one that has the state,
// in the config of after a move, or in an export of later than the one that was typed.
var elsewhere = regexp.MustCompile(`lives elsewhere|lives on another host|there is no \[(etcd|dynamodb)\.main\]|never lowered`)

// wayOn types what is printed, true words with it, until the home signs: whatever was done,
// there is a way on.
func wayOn(w *world, h *home, _ []string) error {
	if !h.exists() || w.byHand {
		return nil
	}
	for _, other := range w.homes {
		if err := w.end(other, syscall.SIGTERM); err != nil {
			return err
		}
	}
	typed := map[string]bool{}
	var history []string
	for {
		if err := w.start(h); err != nil {
			return err
		}
		history = append(history, w.last.output)
		if w.last.status == 0 {
			return w.signsOn(h)
		}
		for w.last.status != 0 {
			line := w.untyped(h, typed)
			if line == "" && elsewhere.MatchString(w.last.output) {
				return nil
			}
			if line == "" {
				return fmt.Errorf("%s: there is no way on:\n%s", h.name, strings.Join(history, "\n"))
			}
			typed[line] = true
			if err := typePrinted(w, line); err != nil {
				return err
			}
			history = append(history, "$ "+line, w.last.output)
		}
	}
}

// untyped returns a command that was printed last, for a home, and was not typed yet.
func (w *world) untyped(h *home, typed map[string]bool) string {
	_, noExport := os.Stat(w.lastExport)
	for _, found := range printed.FindAllStringSubmatch(w.last.output, -1) {
		line := found[1]
		if !typed[line] && w.named(line) == h && !strings.HasPrefix(line, "privyseal start") && !strings.Contains(line, "--help") &&
			(noExport == nil || !strings.Contains(line, " FILE")) {
			return line
		}
	}
	return ""
}

// signsOn says that a signer that runs signs above all that was signed.
func (w *world) signsOn(h *home) error {
	mark, err := w.mark(h)
	if err != nil {
		return err
	}
	// A word about a height leaves the next one out.
	next, signed := max(mark.height, w.oracle.top().height)+1, false
	for try := int64(0); try < 3 && !signed && err == nil; try++ {
		signed, err = w.ask(h, "prevote", next+try, 0, "on")
	}
	if err == nil && !signed {
		err = fmt.Errorf("%s: it starts, it is at %v, and it does not sign the next height:\n%s", h.name, mark, w.last.output)
	}
	return err
}
