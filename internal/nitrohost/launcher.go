package nitrohost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"privyseal/internal/strictjson"
)

// Ensure returns our enclave: the one that runs, or a new one. It never makes a
// second one, and fails where it cannot be sure.
func (l *Launcher) Ensure(ctx context.Context) (e Enclave, adopted bool, err error) {
	found, err := l.Find(ctx)
	switch {
	case err != nil:
		return Enclave{}, false, err
	case found != nil && found.State != "RUNNING":
		return Enclave{}, false, fmt.Errorf("enclave %s is %s; waiting for it to end", found.ID, found.State)
	case found != nil:
		return *found, true, l.check(*found)
	}
	e, err = l.Launch(ctx, false)
	return e, false, err
}

// Find returns the enclave of our name, whatever it measures, or nil. Where it is in
// no list, but may be one that did not answer nitro-cli, that is an error: a second
// one would be launched beside it.
func (l *Launcher) Find(ctx context.Context) (*Enclave, error) {
	all, describeErr := l.Describe(ctx)
	if describeErr != nil && !errors.Is(describeErr, errIncomplete) {
		return nil, describeErr
	}
	var own *Enclave
	for i := range all {
		e := &all[i]
		switch {
		case e.Name == l.Name && own != nil:
			return nil, fmt.Errorf("%w: %s and %s are both called %s; end one with `nitro-cli terminate-enclave --enclave-id ID`", errTaken, own.ID, e.ID, l.Name)
		case e.Name == l.Name:
			own = e
		case l.CID != 0 && e.CID == l.CID:
			return nil, fmt.Errorf("%w: CID %d belongs to enclave %s (%s); give another `cid` to ours in the config, or none", errTaken, l.CID, e.ID, e.Name)
		}
	}
	if own == nil {
		return nil, describeErr
	}
	return own, nil
}

// check says why a running enclave of our name is not the one that the config
// means.
func (l *Launcher) check(e Enclave) error {
	end := fmt.Sprintf("end it with `privyseal nitro stop`; the next start launches the image of the config (enclave %s)", e.ID)
	got, want := e.Measured, l.Want
	switch {
	case e.Debug:
		return fmt.Errorf("%w: %s runs in debug mode, where KMS refuses it and its console is open; %s", errTaken, l.Name, end)
	case l.CID != 0 && e.CID != l.CID:
		return fmt.Errorf("%w: %s runs with CID %d, the config says %d; %s", errTaken, l.Name, e.CID, l.CID, end)
	case got.PCR0 == "" || got.PCR1 == "" || got.PCR2 == "":
		return fmt.Errorf("nitro-cli does not print the measurements of %s; update it to version 1.2 or later", l.Name)
	case got != want:
		return fmt.Errorf("%w: %s runs another image (PCR0 %.12s…, the config's has %.12s…); %s", errTaken, l.Name, got.PCR0, want.PCR0, end)
	}
	return nil
}

// Launch launches the image. In debug mode, which is for a look at the console
// only, KMS does not know the enclave.
//
// An enclave that measures something else than Want, because the file was
// exchanged after it was measured, is ended again.
func (l *Launcher) Launch(ctx context.Context, debug bool) (Enclave, error) {
	args := []string{"--eif-path", l.EIF, "--memory", strconv.Itoa(l.MemoryMiB), "--cpu-count", strconv.Itoa(l.CPUs), "--enclave-name", l.Name}
	if l.CID != 0 {
		args = append(args, "--enclave-cid", strconv.FormatUint(uint64(l.CID), 10))
	}
	if debug {
		args = append(args, "--debug-mode")
	}
	stdout, err := l.runEnclave(ctx, debug, args)
	if err != nil {
		return Enclave{}, err
	}
	var reply struct{ EnclaveID string }
	err = strictjson.Unmarshal(stdout, &reply)
	if err == nil && reply.EnclaveID == "" {
		err = errors.New("there is no EnclaveID")
	}
	if err != nil {
		return Enclave{}, fmt.Errorf("cannot read what nitro-cli run-enclave printed: %w", err)
	}
	e, err := l.launched(ctx, reply.EnclaveID)
	if err != nil || debug {
		return e, err
	}
	if err := l.check(e); err != nil {
		return Enclave{}, errors.Join(fmt.Errorf("the image %s is not the one that was measured; start privyseal again: %w", l.EIF, err), l.Stop(ctx, e.ID))
	}
	return e, nil
}

// usualPauses are between tries of a launch whose failure may pass by itself.
var usualPauses = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second}

// runEnclave launches, a few times where what stood in the way may be gone in a moment.
//
// A launch that was begun is finished: a killed nitro-cli leaves an enclave that is half
// there.
func (l *Launcher) runEnclave(ctx context.Context, debug bool, args []string) ([]byte, error) {
	look, console := func(context.Context, *process) {}, &tail{}
	if debug && l.DialConsole != nil {
		look = func(ctx context.Context, p *process) { l.readConsole(ctx, p, console) }
	}
	pauses := l.pauses
	if pauses == nil {
		pauses = usualPauses
	}
	for tries := 1; ; tries++ {
		stdout, err := l.runBeside(context.WithoutCancel(ctx), launchTimeout, look, "run-enclave", args...)
		e, ok := errors.AsType[*LaunchError](err)
		if !ok {
			return stdout, err
		}
		if e.Console, e.Tries = console.lines(), tries; len(e.Console) > 0 {
			e.Cure = "its console says how far it came"
		}
		if !e.passes() || tries > len(pauses) {
			return nil, err
		}
		select {
		case <-time.After(pauses[tries-1]):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// launched returns the description of an enclave that was launched just now.
func (l *Launcher) launched(ctx context.Context, id string) (Enclave, error) {
	all, err := l.Describe(context.WithoutCancel(ctx))
	for _, e := range all {
		if e.ID == id && e.CID > 3 {
			return e, nil
		}
	}
	if err != nil {
		return Enclave{}, err
	}
	return Enclave{}, fmt.Errorf("enclave %s ended as soon as it was launched; look at its console with `privyseal nitro run --debug` and `privyseal nitro console`", id)
}

// listed reports whether an enclave is there, in whichever state.
func (l *Launcher) listed(ctx context.Context, id string) (bool, error) {
	all, err := l.Describe(context.WithoutCancel(ctx))
	return slices.ContainsFunc(all, func(e Enclave) bool { return e.ID == id }), err
}

// Alive reports whether an enclave still runs.
func (l *Launcher) Alive(ctx context.Context, id string) (bool, error) {
	all, err := l.Describe(ctx)
	for _, e := range all {
		if e.ID == id {
			return e.State == "RUNNING", nil
		}
	}
	return false, err
}

// Stop ends an enclave, and returns when it has ended. What the host acknowledged
// is durable, so nothing is lost.
func (l *Launcher) Stop(ctx context.Context, id string) error {
	stdout, err := l.run(context.WithoutCancel(ctx), stopTimeout, "terminate-enclave", "--enclave-id", id)
	if e, ok := errors.AsType[*LaunchError](err); ok && e.Code == "E11" {
		// An id that no enclave has: it ended by itself.
		if alive, lookErr := l.listed(ctx, id); !alive && lookErr == nil {
			return nil
		}
	}
	if err != nil {
		return err
	}
	var reply struct {
		EnclaveID  string
		Terminated bool
	}
	if err := strictjson.Unmarshal(stdout, &reply); err != nil {
		return fmt.Errorf("cannot read what nitro-cli terminate-enclave printed: %w", err)
	}
	if !reply.Terminated {
		return fmt.Errorf("nitro-cli did not end enclave %s", id)
	}
	return nil
}

// errIncomplete says that nitro-cli listed the enclaves that answered it, and that
// another one, anybody's, did not within its three seconds. It ends with E39 then.
var errIncomplete = errors.New("the list of enclaves is not complete")

// Describe returns all enclaves of this instance that we may see. Beside an
// errIncomplete it returns those that answered.
func (l *Launcher) Describe(ctx context.Context) ([]Enclave, error) {
	stdout, err := l.DescribeJSON(ctx)
	if err != nil && !errors.Is(err, errIncomplete) {
		return nil, err
	}
	list, parseErr := parseDescription(stdout)
	if parseErr != nil {
		return nil, fmt.Errorf("cannot read what nitro-cli describe-enclaves printed: %w", parseErr)
	}
	return list, err
}

// DescribeJSON returns what nitro-cli prints about all enclaves, as it is, and beside
// an errIncomplete about those that answered.
func (l *Launcher) DescribeJSON(ctx context.Context) ([]byte, error) {
	stdout, err := l.run(ctx, describeTimeout, "describe-enclaves")
	if e, ok := errors.AsType[*LaunchError](err); ok && e.Code == "E39" && len(bytes.TrimSpace(stdout)) > 0 {
		return stdout, fmt.Errorf("%w: %w", errIncomplete, err)
	}
	if err != nil {
		return nil, err
	}
	return stdout, nil
}

// Console copies the console of an enclave in debug mode to w, until that ends
// or ctx does.
func (l *Launcher) Console(ctx context.Context, id string, w io.Writer) error {
	cmd := exec.CommandContext(ctx, l.Path, "console", "--enclave-id", id)
	var stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = environment(), w, &stderr, time.Second
	err := cmd.Run()
	if ctx.Err() != nil || err == nil {
		return nil
	}
	explained := l.explain("console", err, stderr.String())
	if e, ok := errors.AsType[*LaunchError](explained); ok && e.Code == "E45" {
		return nil // so it says that the enclave has ended
	}
	return explained
}

// maxEnclaves is far above the four that an instance may have.
const maxEnclaves = 64

// parseDescription reads the array of describe-enclaves. Keys that later
// versions add are no error; what we rely on has to be there and in range.
func parseDescription(stdout []byte) ([]Enclave, error) {
	var list []struct {
		EnclaveName  *string
		EnclaveID    string
		EnclaveCID   uint32
		State, Flags string
		Measurements map[string]string
	}
	if err := strictjson.Unmarshal(stdout, &list); err != nil {
		return nil, err
	}
	if len(list) > maxEnclaves {
		return nil, fmt.Errorf("%d enclaves", len(list))
	}
	out := make([]Enclave, 0, len(list))
	for _, in := range list {
		if in.EnclaveID == "" || in.State == "" {
			return nil, errors.New("an enclave without EnclaveID or State")
		}
		e := Enclave{ID: in.EnclaveID, CID: in.EnclaveCID, State: in.State, Debug: in.Flags != "NONE"}
		if in.EnclaveName != nil {
			e.Name = *in.EnclaveName
		}
		m := in.Measurements
		e.Measured = Measurements{PCR0: m["PCR0"], PCR1: m["PCR1"], PCR2: m["PCR2"], PCR8: m["PCR8"]}
		for _, pcr := range []string{e.Measured.PCR0, e.Measured.PCR1, e.Measured.PCR2, e.Measured.PCR8} {
			if pcr != "" && (len(pcr) != 96 || strings.Trim(pcr, "0123456789abcdef") != "") {
				return nil, fmt.Errorf("%.100q is not the value of a PCR", pcr)
			}
		}
		out = append(out, e)
	}
	return out, nil
}
