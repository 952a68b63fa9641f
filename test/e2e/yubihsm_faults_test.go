package e2e

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/yubihsm"
)

// fault is a line of testdata/yubihsm-faults.txt.
type fault struct {
	name          string
	onNode        bool // a real node is among those who ask
	least         int  // devices
	strikes, ends []string
}

// Every fault strikes a device while validators have votes signed with it. Each of them
// loses one vote at most: with one device after the fault is over, with two from when it
// strikes. Nobody ever signs two messages for one place, and sessions do not pile up.
func TestYubiHSMFaults(t *testing.T) {
	t.Parallel()
	versions := turnOf(t, hsmVersions)
	for i, f := range readFaults(t) {
		for devices := f.least; devices <= 2; devices++ {
			t.Run(fmt.Sprintf("%s, of %d", f.name, devices), func(t *testing.T) {
				t.Parallel()
				version := ""
				if f.onNode {
					version = versions[i%len(versions)]
				}
				w := newFaulty(t, version, devices)
				w.suffers(f)
				w.sessionsFall()
				w.oracle.check(t)
			})
		}
	}
}

func readFaults(t *testing.T) (list []fault) {
	t.Helper()
	text, err := os.ReadFile("testdata/yubihsm-faults.txt")
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\n"); line == "" || line[0] == '#' {
			continue
		}
		name, does, found := strings.Cut(line[1:], ": ")
		strikes, ends, _ := strings.Cut(does, " / ")
		if !found || !strings.ContainsRune("* 2", rune(line[0])) {
			t.Fatalf("a line of no fault: %s", line)
		}
		f := fault{name: strings.TrimSpace(name), onNode: line[0] == '*', least: 1, strikes: strings.Split(strikes, ", ")}
		if line[0] == '2' {
			f.least = 2
		}
		if ends != "" {
			f.ends = strings.Split(ends, ", ")
		}
		list = append(list, f)
	}
	return list
}

// faultNames are what can go wrong with a command.
var faultNames = map[string]yubihsmtest.Fault{
	"lost":            yubihsmtest.Drop(),
	"answer-lost":     yubihsmtest.DropAnswer(),
	"cut":             yubihsmtest.CutAnswer(20),
	"truncated":       yubihsmtest.Truncate(20),
	"garbage":         yubihsmtest.Answer([]byte("<html>")),
	"status-500":      yubihsmtest.Status(500),
	"late":            yubihsmtest.Delay(1500 * time.Millisecond),
	"unplugged":       yubihsmtest.UnpluggedWithin(),
	"invalid-session": yubihsmtest.FailsPlainly(yubihsmtest.InvalidSession),
	"bad-mac":         yubihsmtest.BadMAC(),
	"wrong-signature": yubihsmtest.WrongSignature(),
	"log-full":        yubihsmtest.Fails(yubihsmtest.LogFull),
}

var commandNames = map[string]byte{
	"any": yubihsmtest.Any, "sign": yubihsmtest.SignEdDSA, "create-session": yubihsmtest.CreateSession,
	"authenticate": yubihsmtest.AuthenticateSession, "device-info": yubihsmtest.GetDeviceInfo, "public-key": yubihsmtest.GetPublicKey,
}

// do does to the first device what a line says.
func (w *faulty) do(steps []string) {
	w.t.Helper()
	d := w.dev[0]
	for _, step := range steps {
		words := strings.Fields(step)
		if words[0] == "next" || words[0] == "always" {
			w.arm(words)
			continue
		}
		does := map[string]func(){
			"kill connector":   d.StopConnector,
			"start connector":  func() { d.StartConnector(w.t) },
			"unplug":           d.Unplug,
			"plug":             d.Plug,
			"heal":             d.Heal,
			"idle":             func() { d.Advance(yubihsmtest.IdleTime + time.Second) },
			"take sessions":    w.takeSessions,
			"free sessions":    w.freeSessions,
			"fill log":         w.fillLog,
			"drain log":        w.drainLog,
			"change password":  func() { d.ProvisionAuth(w.t, signerAuth, "another", yubihsmtest.CanSignEdDSA) },
			"restore password": func() { d.ProvisionAuth(w.t, signerAuth, "four", yubihsmtest.CanSignEdDSA) },
			"remove auth-key":  func() { d.Remove(yubihsmtest.AuthenticationKey, signerAuth) },
			"exchange keys":    func() { w.keys(func(id uint16) { d.Swap(w.t, id) }) },
			"remove keys":      func() { w.keys(func(id uint16) { d.Remove(yubihsmtest.AsymmetricKey, id) }) },
			"restore keys":     func() { w.keys(func(id uint16) { w.provision(d, id) }) },
		}[step]
		if does == nil {
			w.t.Fatalf("nobody knows how to %q", step)
		}
		does()
	}
}

// arm sets faults for commands.
func (w *faulty) arm(words []string) {
	w.t.Helper()
	d := w.dev[0]
	command, known := commandNames[words[1]]
	var faults []yubihsmtest.Fault
	for _, name := range words[2:] {
		f := faultNames[name]
		if name == "hang" {
			f = d.Hang()
		}
		known = known && (f != nil || name == "well")
		faults = append(faults, f)
	}
	switch {
	case !known || len(faults) == 0:
		w.t.Fatalf("no such fault: %q", words)
	case words[0] == "always":
		d.Always(command, faults[0])
	default:
		d.Next(command, faults...)
	}
}

func (w *faulty) keys(each func(id uint16)) {
	for id := range uint16(chainsOfFaulty) {
		each(id + 1)
	}
}

// provision puts the key of a chain into a device, the same one each time.
func (w *faulty) provision(d *yubihsmtest.Device, id uint16) {
	secret := sha256.Sum256(append(w.seed[:], byte(id)))
	d.Provision(w.t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: id, Algorithm: yubihsmtest.Ed25519, Capabilities: yubihsmtest.CanSignEdDSA}, secret[:])
}

// admin opens a session of somebody else with the device's first authentication key.
func (w *faulty) admin() (*yubihsm.Session, error) {
	transport, err := yubihsm.Open(w.dev[0].URL())
	check(w.t, err)
	return yubihsm.Authenticate(w.ctx, transport, 1, yubihsm.DeriveKey([]byte("password")))
}

// takeSessions has others open all sessions that are left.
func (w *faulty) takeSessions() {
	for {
		s, err := w.admin()
		if err != nil {
			break
		}
		w.others = append(w.others, s)
		w.taken.Add(1)
	}
	if len(w.others) < yubihsmtest.MaxSessions-2 {
		w.t.Fatalf("others have %d sessions", len(w.others))
	}
}

func (w *faulty) freeSessions() {
	for _, s := range w.others {
		check(w.t, s.Close(w.ctx))
		w.taken.Add(-1)
	}
	w.others = nil
}

// fillLog has the device log signatures, and refuse them when its log is full, which it is
// soon.
func (w *faulty) fillLog() {
	s, err := w.admin()
	check(w.t, err)
	check(w.t, s.SetCommandAudit(w.ctx, map[yubihsm.Command]yubihsm.Audit{yubihsm.CommandSignEdDSA: yubihsm.AuditOn}))
	check(w.t, s.SetForceAudit(w.ctx, yubihsm.AuditOn))
	check(w.t, s.Close(w.ctx))
	w.await("the log is full", func() bool { return len(w.dev[0].Log()) == yubihsmtest.LogSize })
}

func (w *faulty) drainLog() {
	s, err := w.admin()
	check(w.t, err)
	log, err := s.LogEntries(w.ctx)
	check(w.t, err)
	last := slices.MaxFunc(log.Entries, func(a, b yubihsm.LogEntry) int { return cmp.Compare(a.Number, b.Number) })
	check(w.t, s.SetLogIndex(w.ctx, last.Number))
	check(w.t, s.SetForceAudit(w.ctx, yubihsm.AuditOff))
	check(w.t, s.Close(w.ctx))
}
