// Package audit is `privyseal yubihsm audit`: it drains the logs of devices into the files of
// package auditlog, and says what is found in them. A signer that runs does the first by
// itself.
package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/key/yubihsm/auditlog"
	"privyseal/internal/ops/yubihsm/reach"
	hsm "privyseal/yubihsm"
)

// auditing is one run of the command.
type auditing struct {
	reach.Signer
	out, check string
	ids        []string // of keys, as they were typed
	keys       []uint16
	json       bool
	notes      io.Writer // what is no part of the report
}

// NewCommand returns `privyseal yubihsm audit`.
func NewCommand(app *cli.App) *cobra.Command {
	c := &auditing{}
	cmd := &cobra.Command{
		Use:   "audit [--yubihsm NAME | --out DIR --device ADDRESS --auth-key N --password-file FILE --key-id ID | --check PATH]",
		Short: "Drain the devices' logs, and name signatures that the signer did not ask for",
		Long: `Drain the log of each device into the audit_dir of its [yubihsm.NAME], or into --out, and
check what is there: that the entries of each device continue each other, that the files are
as they were written, and that the signer asked for each signature of its keys. A signature
is counted by key, authentication key and length, as a device does not log what it signs.

A signer that runs with audit_dir drains the logs by itself: then its files are checked.
With --check no device is asked.`,
		Example: `  privyseal yubihsm audit --home /var/lib/privyseal
  privyseal yubihsm audit --check /var/lib/privyseal/audit --json`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.notes = cmd.ErrOrStderr()
			return c.run(cmd.Context(), app, cmd.OutOrStdout())
		},
	}
	c.Add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&c.out, "out", "", "folder to drain the logs into (default: audit_dir of [yubihsm.NAME])")
	fl.StringVar(&c.check, "check", "", "only check this folder, or one file of it")
	fl.StringSliceVar(&c.ids, "key-id", nil, "object id of a key that is ours, as in 0x0001; may be repeated (default: those of the chains of [yubihsm.NAME])")
	fl.BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

// run drains, reads what is there, and fails if something of it is not as it should be.
func (c *auditing) run(ctx context.Context, app *cli.App, out io.Writer) error {
	var reports []*auditlog.Report
	var failed error
	if c.check != "" {
		if c.out != "" {
			return cli.Usagef("--check asks no device, and --out is for what one has logged")
		}
		reports, failed = read(c.check)
	} else {
		places, err := c.Places(app)
		if err == nil {
			err = c.readKeys()
		}
		if err != nil {
			return err
		}
		reports, failed = c.drainAll(ctx, places)
	}
	if err := c.print(out, reports); err != nil {
		return err
	}
	bad := 0
	for _, r := range reports {
		bad += r.Bad()
	}
	if bad > 0 {
		failed = errors.Join(failed, cli.Actf("%s in the logs of the devices", cure.Count(bad, "finding")))
	}
	return failed
}

// readKeys reads the object ids of keys, and refuses what is not one.
func (c *auditing) readKeys() error {
	for _, text := range c.ids {
		id, err := strconv.ParseUint(text, 0, 16)
		if err != nil || id == 0 {
			return cli.Usagef("--key-id %.20q is not from 1 to %d", text, math.MaxUint16)
		}
		c.keys = append(c.keys, uint16(id))
	}
	return nil
}

// read reads a folder, or one file.
func read(path string) ([]*auditlog.Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot check the audit log: %w", err)
	}
	if info.IsDir() {
		return readAll([]string{path})
	}
	r, err := auditlog.CheckFile(path)
	if err != nil {
		return nil, err
	}
	return []*auditlog.Report{r}, nil
}

// readAll reads the files of all devices in folders.
func readAll(folders []string) (reports []*auditlog.Report, failed error) {
	for _, folder := range folders {
		serials, err := auditlog.Serials(folder)
		if err == nil && len(serials) == 0 {
			err = fmt.Errorf("there is no audit log in %s", folder)
		}
		failed = errors.Join(failed, err)
		for _, serial := range serials {
			r, err := auditlog.Check(folder, serial)
			if failed = errors.Join(failed, err); err == nil {
				reports = append(reports, r)
			}
		}
	}
	return reports, failed
}

// drainAll drains the logs of all devices, and reads what is there then.
func (c *auditing) drainAll(ctx context.Context, places []reach.Place) ([]*auditlog.Report, error) {
	var folders []string
	var failed error
	for _, p := range places {
		folder := c.out
		if set, ok := p.Set(); ok && folder == "" {
			folder = set.Audit(p.Config.Path)
		}
		if folder == "" {
			return nil, cure.Add(cli.Usagef("there is no folder for the logs"), "add --out DIR, or audit_dir = \"audit\" to [%s.%s]", reach.Table, cmp.Or(p.Table, "NAME"))
		}
		for _, address := range p.Devices {
			failed = errors.Join(failed, c.drain(ctx, p, address, folder))
		}
		if !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	if failed != nil { // what is there may be of another day
		for _, folder := range folders {
			if serials, err := auditlog.Serials(folder); err != nil || len(serials) == 0 {
				return nil, failed
			}
		}
	}
	reports, err := readAll(folders)
	return reports, errors.Join(failed, err)
}

// drain drains the log of one device. A signer that runs does that by itself.
func (c *auditing) drain(ctx context.Context, p reach.Place, address, folder string) error {
	err := p.Login.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error {
		info, err := s.DeviceInfo(ctx)
		if err != nil {
			return err
		}
		// Before the files are ours: a signer that is about to start cannot have them, and
		// what it signs would look like somebody else's.
		log, err := s.LogEntries(ctx)
		if err != nil {
			return err
		}
		w, err := auditlog.Begin(folder, info.Serial, p.Login.ID)
		if err != nil {
			return err
		}
		defer w.Close()
		return errors.Join(save(ctx, s, w, auditlog.Batch{Time: time.Now(), Log: log, Keys: c.keysOf(p)}), w.Stop(nil))
	})
	switch {
	case errors.Is(err, auditlog.ErrInUse), errors.Is(err, syscall.EBUSY):
		fmt.Fprintf(c.notes, "the YubiHSM at %s is in use, as by the signer that runs, which drains its log by itself if audit_dir is set\n", address)
		return nil
	case reach.Refused(err, hsm.InsufficientPermissions):
		return cure.Add(fmt.Errorf("%s may not read the log: it lacks the capability %v", reach.ObjectAt("authentication key", p.Login.ID, address), hsm.GetLogEntries),
			"name another one with --out, --device, --auth-key and --password-file, or make one for the signer: %s", yubihsm.DrainCommand(address))
	case err != nil:
		return fmt.Errorf("cannot drain the log of the YubiHSM at %s: %w", address, err)
	}
	return nil
}

// save makes durable what was in the log, and then has the device forget it.
func save(ctx context.Context, s *hsm.Session, w *auditlog.Writer, b auditlog.Batch) error {
	entries := b.Log.Entries
	if _, err := w.Append(b); err != nil || len(entries) == 0 {
		return err
	}
	return s.SetLogIndex(ctx, entries[len(entries)-1].Number)
}

// keysOf returns the keys that are ours on the devices of a place.
func (c *auditing) keysOf(p reach.Place) (ids []uint16) {
	ids = slices.Clone(c.keys)
	for _, ch := range p.Chains() {
		if r, err := yubihsm.ReadReference(p.Config.Path(ch.Key)); err == nil {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// print prints reports.
func (c *auditing) print(out io.Writer, reports []*auditlog.Report) error {
	if c.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if reports == nil {
			reports = []*auditlog.Report{}
		}
		return encoder.Encode(reports)
	}
	for _, r := range reports {
		fmt.Fprintf(out, "YubiHSM %s: %s in %s, last written %s\n", r.Serial, counted(r.Entries, "entry", "entries"), cure.Count(r.Files, "file"), r.Last.Format(time.RFC3339))
		fmt.Fprintf(out, "  %s of our keys: %d asked for by a signer of ours, %d too short for a vote, %d from before the first file\n",
			cure.Count(r.Signatures, "signature"), r.Matched, r.Probes, r.Before)
		for _, f := range r.Findings {
			verdict := "--  "
			if f.Kind.Bad() {
				verdict = "FAIL"
			}
			fmt.Fprintf(out, "  %s %s\n", verdict, f.Text)
		}
		if r.More > 0 {
			fmt.Fprintf(out, "  FAIL and %d more\n", r.More)
		}
		fmt.Fprintf(out, "  last line: %s\n", r.Head)
	}
	return nil
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
