// Package check is `privyseal check`: everything that can be looked at without changing it,
// a row each, and what to do about a row that failed. What a provider or a store has of it
// comes from its own room.
package check

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"privyseal/internal/cli"
	"privyseal/internal/command/screen"
	"privyseal/internal/command/status"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/home"
	"privyseal/internal/monitor"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

func NewCommand(a *provider.House) *cobra.Command {
	var dial, asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check config, keys, states and nodes, and say how to fix them",
		Long: `Check config, keys, states, disk, clock and nodes, one row each, and say what to do
about a row that failed. It changes nothing, even while "privyseal start" runs; nodes
are then shown as the running signer sees them. The exit status is 1 if a row failed.

Without a running signer no node is dialled: a node accepts whoever connects as its
signer, and may exit when that connection ends. --dial dials it anyway.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := a.Home()
			if err != nil {
				return err
			}
			k := &inspection{app: a, home: home, dial: dial, owners: map[watermark.ID]string{}}
			k.ID = k.id
			k.all(cmd.Context())
			for i := range k.Rows {
				k.Rows[i].Text, k.Rows[i].Cure = a.InHome(k.Rows[i].Text), a.InHome(k.Rows[i].Cure)
			}
			print := k.print
			if asJSON {
				print = k.printJSON
			}
			if err := print(cmd.OutOrStdout()); err != nil {
				return err
			}
			if n := k.Failed(); n > 0 {
				return fmt.Errorf("%d of %s failed", n, cure.Count(len(k.Rows), "check"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&dial, "dial", false, "dial the nodes if no signer runs; this can make a node exit")
	return cmd
}

// subject is what a row is about, as the table has it.
func subject(r provider.Row) string {
	words := []string{r.Chain, r.Check, r.Node}
	if r.Check == wholeChain {
		words[1] = ""
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

// wholeChain is the check of all of a chain.
const wholeChain = "chain"

func (k *inspection) print(w io.Writer) error {
	_, err := io.WriteString(w, k.page(screen.Of(w)))
	return err
}

// page returns a row a line, and under a failed one what repairs it. Columns are
// as wide as their widest cell, the last one aside.
func (k *inspection) page(s screen.Screen) string {
	var b strings.Builder
	width := 0
	for _, r := range k.Rows {
		width = max(width, len(subject(r)))
	}
	indent := 4 + 2 + width + 2
	for _, r := range k.Rows {
		text := r.Text
		if r.Line > 0 {
			text = fmt.Sprintf("line %d: %s", r.Line, text)
		}
		s.Put(&b, fmt.Sprintf("%s  %-*s  ", verdict(s, r.Verdict), width, subject(r)), indent, s.Wrap(indent, text))
		for next := range strings.Lines(r.Cure) {
			s.Put(&b, strings.Repeat(" ", indent)+"-> ", indent+3, s.Wrap(indent+3, strings.TrimSuffix(next, "\n")))
		}
	}
	return b.String()
}

// verdict returns the cell of a verdict.
func verdict(s screen.Screen, v provider.Verdict) string {
	tones := map[provider.Verdict]screen.Tone{provider.Good: screen.Fine, provider.Unsure: screen.Doubt, provider.Bad: screen.Alarm}
	return s.Paint(tones[v], string(v)) + strings.Repeat(" ", 4-len(v))
}

// printJSON writes all rows as one object. Its keys stay as they are.
func (k *inspection) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		OK     bool           `json:"ok"`
		Failed int            `json:"failed"`
		Checks []provider.Row `json:"checks"`
	}{k.Failed() == 0, k.Failed(), k.Rows})
}

func (k *inspection) all(ctx context.Context) {
	k.checkHome()
	if !k.checkConfig() {
		return
	}
	k.checkSigner(ctx)
	k.checkListen()
	k.checkClock()
	for _, e := range k.app.Providers {
		if checker, ok := e.Holder.(provider.Checker); ok {
			checker.Check(ctx, &k.Report)
		}
	}
	for _, store := range k.app.Stores {
		if store.Check != nil {
			store.Check(ctx, &k.Report)
		}
	}
	k.checkTables()
	folders := map[string]bool{}
	for i, ch := range k.Config.Chains {
		k.Chain = ch.Name
		k.checkChain(ctx, i)
		k.checkNodes(ctx, i)
		k.checkWitnesses(ctx, i)
		k.Chain = ""
		if dir := filepath.Dir(k.Config.Path(ch.State)); !folders[dir] {
			folders[dir] = true
			k.checkDisk(dir)
		}
	}
}

// checkTables has a row for each table of a provider or store that no chain names.
func (k *inspection) checkTables() {
	named := map[string]bool{}
	for _, ch := range k.Config.Chains {
		for table, name := range k.Config.Named(ch) {
			named[table+" "+name] = true
		}
	}
	for _, table := range slices.Sorted(maps.Keys(k.Config.Tables)) {
		for _, name := range slices.Sorted(maps.Keys(k.Config.Tables[table])) {
			if what := table + " " + name; !named[what] {
				k.Add(provider.Unsure, k.Config.Line(table, name), what, "no chain names it, so nothing uses it", "")
			}
		}
	}
}

func (k *inspection) checkHome() {
	info, err := os.Stat(k.home)
	switch {
	case err != nil:
		k.Add(provider.Bad, 0, "home", err.Error(), k.app.Command("init --chain-id ID --node ADDR"))
	case !info.IsDir():
		k.Add(provider.Bad, 0, "home", k.home+" is not a folder", "name the signer's folder with --home or $PRIVYSEAL_HOME")
	case info.Mode().Perm()&0o022 != 0:
		k.Add(provider.Bad, 0, "home", fmt.Sprintf("%s may be written by others (mode %#o)", k.home, info.Mode().Perm()), "`chmod go-w "+shell.Word(k.home)+"`")
	default:
		k.Add(provider.Good, 0, "home", withMode(k.home), "")
	}
	if uid, _, known := cli.Owner(k.home); known && uid != os.Geteuid() {
		k.Add(provider.Unsure, 0, "user", fmt.Sprintf("the home folder belongs to user %d; the rows below show what user %d may do", uid, os.Geteuid()), "")
	}
}

// withMode returns a path with the mode of what it leads to.
func withMode(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return path
	}
	return fmt.Sprintf("%s, mode %#o", path, info.Mode().Perm())
}

// checkConfig reports whether there is a config to go on with.
func (k *inspection) checkConfig() bool {
	path := filepath.Join(k.home, config.FileName)
	c, err := k.app.Kinds.Load(path)
	var mistakes *config.Error
	if errors.As(err, &mistakes) {
		for _, p := range mistakes.Problems {
			k.Add(provider.Bad, p.Line, "config", p.Text, cmp.Or(p.Next, "edit "+path))
		}
		return false
	}
	if err != nil {
		k.Add(provider.Bad, 0, "config", err.Error(), "")
		return false
	}
	k.Config = c
	k.Add(provider.Good, 0, "config", withMode(path)+", chains: "+cli.ChainNames(c.Chains), "")
	if addr, err := netip.ParseAddrPort(c.Listen); err == nil && !addr.Addr().IsLoopback() {
		k.Add(provider.Unsure, c.Line("listen"), "listen", c.Listen+" is open to whoever reaches it; it shows heights and node names, and accepts no commands", "")
	}
	return true
}

func (k *inspection) checkSigner(ctx context.Context) {
	s, err := monitor.ReadSnapshot(ctx, k.home)
	switch {
	case errors.Is(err, monitor.ErrNotRunning):
		k.Add(provider.Unsure, 0, "signer", "not running; "+k.app.Command("start")+" starts it", "")
		return
	case err != nil:
		k.Add(provider.Bad, 0, "signer", err.Error(), "run check as the user that the signer runs as")
		return
	}
	k.running = &s
	k.Add(provider.Good, 0, "signer", fmt.Sprintf("running, process %d, version %s", s.PID, s.Version), "")
	if limit, known := coreLimit(s.PID); known && limit != "0" {
		k.Add(provider.Bad, 0, "core dumps", "the running signer may leave its key in a core file", "`prlimit --core=0 --pid "+fmt.Sprint(s.PID)+"`")
	} else {
		k.Add(provider.Good, 0, "core dumps", "off", "")
	}
}

func (k *inspection) checkClock() {
	if synchronised, known := clockSynchronised(); known && !synchronised {
		k.Add(provider.Unsure, 0, "clock", "not synchronised according to the kernel; height limits and log times may be wrong; see `timedatectl`", "")
		return
	}
	k.Add(provider.Good, 0, "clock", time.Now().UTC().Format(time.RFC3339), "")
}

// checkChain checks key, identity, what was imported, and state of a chain.
func (k *inspection) checkChain(ctx context.Context, i int) {
	ch := k.Config.Chains[i]
	if k.running != nil {
		k.checkRunning(ch, k.Config.Line("chain", i))
	}
	line := k.Config.Line("chain", i, "key")
	key, err := k.app.Providers.Public(k.Config, ch)
	if err != nil {
		k.Add(provider.Bad, line, "key", err.Error(), "")
	} else {
		k.Add(provider.Good, line, "key", withMode(k.Config.Path(ch.Key))+", "+key.String(), "")
		id := watermark.ID{ChainID: ch.ID, Key: key.ID()}
		if owner, taken := k.owners[id]; taken {
			k.Add(provider.Bad, line, "key", fmt.Sprintf("chain %s has the same id and this key too, and one key has one state", owner), "remove one of the two from "+config.FileName)
		}
		k.owners[id] = ch.Name
	}
	if ch.Identity != "" {
		k.checkIdentity(i)
	}
	for _, source := range ch.ImportedFrom {
		if _, err := os.Lstat(source); !errors.Is(err, fs.ErrNotExist) {
			k.Add(provider.Bad, k.Config.Line("chain", i, "imported_from"), "import", source+" still holds "+k.entry(ch).Imported,
				"once its old signer is off for good: `shred -u "+shell.Word(source)+"`")
		}
	}
	k.checkState(ctx, i, key)
}

// checkRunning checks whether the running signer can sign for a chain.
func (k *inspection) checkRunning(ch config.Chain, line int) {
	c := k.snapshot(ch.Name)
	problem := ""
	if c != nil {
		problem, _ = status.Problem(*c) // the cure is in a row of its own
	}
	switch {
	case c == nil:
		k.Add(provider.Bad, line, wholeChain, "the running signer does not know it: it was added after the start", k.reloadCure(ch))
	case c.Ready && c.Problem != "":
		_, next := status.Problem(*c)
		k.Add(provider.Bad, line, wholeChain, "the running signer cannot sign for it: "+problem, next)
	case c.Ready:
	case c.Problem == "":
		k.Add(provider.Unsure, line, wholeChain, "the running signer is waiting for its enclave", "look again in a minute")
	case !k.isLocal(ch):
		_, next := status.Problem(*c) // which the enclave says, and no other row
		k.Add(provider.Bad, line, wholeChain, "the running signer cannot sign for it: "+problem, cmp.Or(next, "fix that, or what another row reports; the signer retries by itself, and its log has more"))
	default:
		k.Add(provider.Bad, line, wholeChain, "the running signer cannot sign for it: "+problem, "fix what the rows below say, then "+k.reloadCure(ch))
	}
}

// reloadCure has the running signer open a chain that it does not sign for.
func (k *inspection) reloadCure(ch config.Chain) string {
	if !k.isLocal(ch) {
		return "restart the signer, for example with `systemctl restart " + k.unit() + "`"
	}
	return fmt.Sprintf("reload the signer with `systemctl reload %s` or `kill -HUP %d`", k.unit(), k.running.PID)
}

func (k *inspection) checkIdentity(i int) {
	ch := k.Config.Chains[i]
	path, line := k.Config.Path(ch.Identity), k.Config.Line("chain", i, "identity")
	key, err := k.app.Providers.Identity(k.Config, ch)
	switch {
	case err != nil:
		k.Add(provider.Bad, line, "identity", err.Error(), "")
	case key.Type() != pubkey.Ed25519:
		k.Add(provider.Bad, line, "identity", fmt.Sprintf("%s is of type %s, nodes need ed25519", path, key.Type()), "`privyseal key generate --out FILE`")
	default:
		k.Add(provider.Good, line, "identity", withMode(path)+cli.Prefixed(", ", k.entry(ch).Form)+", node id "+key.NodeID(), "")
	}
}

func (k *inspection) checkState(ctx context.Context, i int, key pubkey.Key) {
	ch := k.Config.Chains[i]
	what, line := "state", k.Config.Line("chain", i, "state")
	var id watermark.ID
	if !key.IsZero() {
		id = watermark.ID{ChainID: ch.ID, Key: key.ID()}
	}
	var info provider.Info
	state, err := k.app.Stores.State(k.Config, ch, id)
	if err == nil {
		info, err = state.Inspect(ctx)
	}
	if err == nil {
		err = info.Problem
	}
	if err != nil {
		k.Add(provider.Bad, line, what, k.app.Providers.ExplainState(k.Config, ch, err).Error(), "")
		return
	}
	text := fmt.Sprintf("%s%s, %s", state.Where, cli.Prefixed(", ", home.FileText(info, "")), home.MarkText(k.app.Providers.Shown(ch, info.Saved.Mark)))
	if info.Torn {
		text += ", one copy of a record is damaged (the other one is used, and the next start repairs it)"
	}
	k.Add(provider.Good, line, what, text, "")
	if err := k.app.Providers.InPlace(k.Config, ch, info.Saved.Mark); err != nil {
		k.Add(provider.Bad, line, what, err.Error(), "")
	}
	// What hosts share is no record of this one.
	if keeper, ok := k.app.Providers.Keeper(ch); ok && !state.Shared {
		keeper.CheckState(&k.Report, line, info.Saved.Mark)
	}
	if ahead := time.Until(info.Saved.Time); ahead > 5*time.Second {
		k.Add(provider.Bad, 0, "clock", fmt.Sprintf("the state was written %s in the future: this clock is slow, or was fast when it was written", ahead.Round(time.Second)), "`timedatectl status`, and set the clock")
	}
}

// How long a durable write may take: one that is slow costs a good part of a fast
// chain's step, and with one that is hopeless votes come too late on any chain.
const (
	slowSync     = 20 * time.Millisecond
	hopelessSync = time.Second
)

// checkDisk measures what each signature waits for: one write of 512 bytes and
// its sync, beside the state file.
func (k *inspection) checkDisk(dir string) {
	took, err := measureSync(dir)
	if err != nil {
		k.Add(provider.Bad, 0, "disk", "cannot write in "+dir+": "+err.Error(), "`df "+shell.Word(dir)+"`, and run check as the user that the signer runs as")
		return
	}
	k.addDisk(dir, took)
}

// addDisk adds the row of a disk that takes so long.
func (k *inspection) addDisk(dir string, took time.Duration) {
	text := fmt.Sprintf("%s takes %s for a durable write", dir, took.Round(10*time.Microsecond))
	switch {
	case took > hopelessSync:
		k.Add(provider.Bad, 0, "disk", text+"; votes will be late", "move the key `state` to a local SSD: `privyseal state export`, then import")
	case took > slowSync:
		k.Add(provider.Unsure, 0, "disk", text+"; an SSD takes under a millisecond", "")
	default:
		k.Add(provider.Good, 0, "disk", text, "")
	}
}

// measureSync returns the median of some durable writes to a new file in dir, which has
// lost its name by then.
func measureSync(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".privyseal-check-*")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	os.Remove(f.Name()) // at once, so that a kill leaves nothing
	block := make([]byte, 512)
	// The first write allocates; the state file was filled when it was made.
	if _, err := f.WriteAt(block, 0); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	var took [15]time.Duration
	for i := range took {
		start := time.Now()
		if _, err := f.WriteAt(block, 0); err != nil {
			return 0, err
		}
		if err := syncData(f); err != nil {
			return 0, err
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took[:])
	return took[len(took)/2], nil
}

func (k *inspection) checkNodes(ctx context.Context, i int) {
	ch := k.Config.Chains[i]
	for j, n := range ch.Nodes {
		addr, err := session.ParseAddr(n.Addr)
		if err != nil {
			continue // config.Load has refused it
		}
		k.Node = n.Name
		k.checkNode(ctx, ch, n, k.Config.Line("chain", i, "node", j, "addr"), addr)
		k.Node = ""
	}
}

func (k *inspection) checkNode(ctx context.Context, ch config.Chain, n config.Node, line int, addr session.Addr) {
	if seen, ok := k.seen(ch.Name, n.Name); ok {
		k.addSeen(ch, line, addr, seen)
		return
	}
	if addr.Network == "unix" && !k.checkSocket(line, addr.Address, n.PeerUID) {
		return
	}
	switch {
	case k.running == nil && k.dial:
		k.dialNode(ctx, line, addr)
	case addr.Network != "unix":
		k.Add(provider.Unsure, line, "node", addr.String()+", not dialled; only a running signer knows whether it answers", "")
	}
}

// seen returns how the running signer sees a node.
func (k *inspection) seen(chainID, name string) (monitor.NodeSnapshot, bool) {
	if c := k.snapshot(chainID); c != nil {
		for _, n := range c.Nodes {
			if n.Name == name {
				return n, true
			}
		}
	}
	return monitor.NodeSnapshot{}, false
}

// unit is the systemd unit that serves such a config.
func (k *inspection) unit() string {
	unit := "privyseal"
	for _, ch := range k.Config.Chains {
		if e := k.entry(ch); e.Unit != "" {
			unit = e.Unit
		}
	}
	return unit
}

func (k *inspection) addSeen(ch config.Chain, line int, addr session.Addr, n monitor.NodeSnapshot) {
	text := fmt.Sprintf("%s, %s for %s", addr, n.State, status.Age(n.Since, time.Now()))
	if n.State != session.Dialling.String() {
		k.Add(provider.Good, line, "node", text, "")
		return
	}
	if !k.isLocal(ch) && !k.snapshot(ch.Name).Ready {
		// An enclave that cannot sign dials no nodes; the row of the chain says why.
		k.Add(provider.Unsure, line, "node", text+cli.Prefixed("; ", status.NodeError(n)), "")
		return
	}
	k.Add(provider.Bad, line, "node", text+cli.Prefixed("; ", status.NodeError(n)), "start the node, with priv_validator_laddr set for "+addr.String()+" in its config.toml")
}

// checkSocket looks at a unix socket without touching it. It reports whether
// there is one to dial.
func (k *inspection) checkSocket(line int, path string, peerUID *uint32) bool {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			k.Add(provider.Bad, line, "node", err.Error(), "make the folder, writable for the node and accessible to privyseal, or correct the address")
			return false
		}
		k.Add(provider.Unsure, line, "node", path+" is not there: the node is not running, or has no priv_validator_laddr", "")
		return false
	case err != nil:
		k.Add(provider.Bad, line, "node", err.Error(), "give privyseal's user access to the folder")
		return false
	case info.Mode().Type() != fs.ModeSocket:
		k.Add(provider.Bad, line, "node", path+" is not a socket", "correct the address")
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && peerUID != nil && stat.Uid != *peerUID:
		k.Add(provider.Bad, line, "node", fmt.Sprintf("%s belongs to user %d, not to peer_uid %d", path, stat.Uid, *peerUID), "correct peer_uid, or find out who made that socket")
		return false
	case unix.Access(path, unix.W_OK) != nil:
		k.Add(provider.Bad, line, "node", path+" may not be opened by this user", "make the node's socket writable for privyseal's user, for example with a common group")
		return false
	case ok:
		k.Add(provider.Good, line, "node", fmt.Sprintf("%s, a socket of user %d, not dialled", path, stat.Uid), "")
	}
	return true
}

// dialNode connects and hangs up, as the operator has asked for.
func (k *inspection) dialNode(ctx context.Context, line int, addr session.Addr) {
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, addr.Socket(), addr.Address)
	if err != nil {
		k.Add(provider.Bad, line, "node", err.Error(), "start the node, with priv_validator_laddr set for "+addr.String()+" in its config.toml")
		return
	}
	conn.Close()
	k.Add(provider.Good, line, "node", addr.String()+" takes connections", "")
}
