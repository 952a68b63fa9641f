package setup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/harden"
	"privyseal/internal/key/yubihsm/provision"
	"privyseal/internal/key/yubihsm/words"
	"privyseal/internal/provider"
	"privyseal/internal/regular"
	"privyseal/internal/secret"
	"privyseal/internal/shell"
	"privyseal/internal/terminal"
	hsm "privyseal/yubihsm"
)

// maxWords bounds a file with words, in bytes.
const maxWords = 4096

// run sets the device up. Until change it changes nothing on it.
func (s *setting) run(ctx context.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := harden.ForbidCoreDumps(); err != nil {
		return fmt.Errorf("cannot keep the words out of core files: %w", err)
	}
	harden.LockMemory() // as far as the limit for this user allows
	if s.person != nil {
		defer s.person.Close()
	}
	plan, err := s.prepare(ctx)
	defer plan.wipe()
	if err != nil {
		switch {
		case ctx.Err() != nil:
			err = fmt.Errorf("stopped: %w; nothing on the device has changed", context.Cause(ctx))
		case errors.Is(err, terminal.ErrEnded):
			err = fmt.Errorf("stopped: %w; nothing on the device has changed", terminal.ErrEnded)
		}
		return err
	}
	if err := s.change(ctx, plan); err != nil {
		return s.unfinished(ctx, err)
	}
	if err := s.write(plan.words); err != nil {
		return cure.Add(cli.Actf("the device is set up, and its passwords are not written: %w", err), "%s, with another --password-dir", s.again(""))
	}
	return s.report(plan)
}

// plan is what is done on the device.
type plan struct {
	words   words.Words
	secrets *provision.Secrets
	was     provision.State
	begun   bool  // by these words
	differs error // what is on a device that these words have begun, and is not theirs
	erase   bool
}

func (p *plan) wipe() {
	p.words.Wipe()
	if p.secrets != nil {
		p.secrets.Wipe()
	}
	p.was.As.Wipe()
}

// prepare finds out what is to be done, and refuses what cannot be. The returned plan has to
// be wiped, also beside an error.
func (s *setting) prepare(ctx context.Context) (*plan, error) {
	p := &plan{}
	if s.restore {
		var err error
		if p.words, err = s.recall(ctx); err != nil {
			return p, err
		}
		if p.secrets, err = provision.Derive(p.words); err != nil {
			return p, err
		}
	}
	if err := s.look(ctx, p); err != nil {
		return p, err
	}
	s.device.Serial = p.was.Info.Serial
	if s.dir == "" {
		s.dir = fmt.Sprintf("yubihsm-%010d", s.device.Serial)
	}
	if err := s.judge(ctx, p); err != nil {
		return p, err
	}
	if err := s.room(p.words); err != nil {
		return p, err
	}
	if s.restore {
		return p, s.confirm(ctx, p)
	}
	if err := s.confirm(ctx, p); err != nil {
		return p, err
	}
	return p, s.invent(ctx, p)
}

// meet sees whether there is a device, before somebody types 24 words for it.
func (s *setting) meet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, meetTime)
	defer cancel()
	transport, err := hsm.Open(s.device.Address)
	if err != nil {
		return s.refused(err)
	}
	defer transport.Close()
	_, err = hsm.ReadDeviceInfo(ctx, transport)
	return s.refused(err)
}

// meetTime bounds the wait for a device's first answer.
const meetTime = 5 * time.Second

// recall returns the words of a device that was set up before.
func (s *setting) recall(ctx context.Context) (words.Words, error) {
	if s.wordsFile == "" {
		if err := s.meet(ctx); err != nil {
			return words.Words{}, err
		}
		w, err := s.person.remember(ctx)
		if err != nil && ctx.Err() == nil {
			err = cli.Actf("%w", err)
		}
		return w, err
	}
	text, err := regular.ReadSecret("file with words", s.wordsFile, provider.Credentials(), maxWords)
	if err != nil {
		return words.Words{}, cli.Act(err)
	}
	defer clear(text)
	w, err := words.Parse(text)
	if err != nil {
		err = cli.Actf("%s: %w", s.wordsFile, err)
	}
	return w, err
}

// look looks at the device with what opens it: the words, the authentication key of
// --auth-key, or the factory's, in this order.
func (s *setting) look(ctx context.Context, p *plan) (err error) {
	var logins []provision.Login
	if p.secrets != nil {
		logins = p.secrets.Logins()
	}
	if s.old.File != "" {
		old, err := s.login()
		if err != nil {
			return cli.Act(err)
		}
		logins = append(logins, old)
	}
	p.was, err = s.device.Look(ctx, append(logins, provision.Factory())...)
	locked, isLocked := errors.AsType[*provision.LockedError](err)
	if !isLocked {
		return s.refused(err)
	}
	if s.old.File != "" || s.person == nil || locked.Missing {
		return s.locked(locked)
	}
	if err := s.person.Say("%v, so it was set up before.\nErasing it takes the password that it has now.", locked); err != nil {
		return err
	}
	password, err := s.person.password(ctx, s.old.ID)
	if err != nil {
		return err
	}
	if len(password) == 0 {
		return cli.Actf("no password was typed; nothing on the device has changed")
	}
	s.old.Text = secret.New(string(password))
	clear(password)
	old, err := s.login()
	if err != nil {
		return cli.Act(err)
	}
	p.was, err = s.device.Look(ctx, old)
	if locked, ok := errors.AsType[*provision.LockedError](err); ok {
		return s.locked(locked)
	}
	return s.refused(err)
}

// login returns the authentication key of --auth-key.
func (s *setting) login() (provision.Login, error) {
	password, err := s.old.Password()
	if err != nil {
		return provision.Login{}, err
	}
	defer clear(password)
	if w, err := words.Parse(password); err == nil { // with capitals or other spaces than were hashed
		defer w.Wipe()
		text, err := w.Text()
		if err != nil {
			return provision.Login{}, err
		}
		defer clear(text)
		return provision.Login{ID: s.old.ID, Key: hsm.DeriveKey(text)}, nil
	}
	return provision.Login{ID: s.old.ID, Key: hsm.DeriveKey(password)}, nil
}

// locked says what to do about a device that nothing opens.
func (s *setting) locked(err *provision.LockedError) error {
	how := "name one that opens it with --auth-key and --password-file; without any, hold the device's contact while plugging it in, for ten seconds, which erases it"
	if err.Interrupted && !s.restore {
		return cure.Add(cli.Actf("%w, and a set-up of it was interrupted", err), "finish it with its words: `%s`, or %s", cli.Again("--restore"), how)
	}
	return cure.Add(cli.Act(err), "%s", how)
}

// refused says which device does not answer.
func (s *setting) refused(err error) error {
	var device *hsm.DeviceError
	var other *provision.OtherError
	var differs *provision.DiffersError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &other), errors.As(err, &differs):
		return cli.Act(err) // it names the device
	case errors.As(err, &device) && device.Code == hsm.SessionsFull:
		return cure.Add(fmt.Errorf("all 16 sessions of the YubiHSM at %s are in use", s.device.Address), "wait half a minute: a session ends by itself when it is not used")
	case errors.Is(err, hsm.ErrMalformed):
		return fmt.Errorf("what answers at %s is not a YubiHSM connector: %w", s.device.Address, err)
	}
	return fmt.Errorf("cannot use the YubiHSM at %s: %w", s.device.Address, err)
}

// judge decides whether the device has to be erased, and refuses an authentication key that
// may not do it, and another device than --serial names.
func (s *setting) judge(ctx context.Context, p *plan) (err error) {
	if n, _ := number(s.serial); s.serial != "" && n != s.device.Serial {
		return cli.Actf("--serial %s is not that of the YubiHSM at %s, which has %010d; nothing on it has changed", s.serial, s.device.Address, s.device.Serial)
	}
	if p.secrets != nil {
		p.begun, err = s.device.Begun(ctx, p.was, p.secrets)
		_, differs := errors.AsType[*provision.DiffersError](err)
		switch {
		case differs:
			p.differs = err
		case err != nil:
			return s.refused(err)
		case p.begun:
			return nil
		}
	}
	p.begun, p.erase = false, !p.was.Empty()
	var needs hsm.Capabilities
	if p.erase {
		needs |= hsm.ResetDevice
	}
	if !s.restore {
		needs |= hsm.GetPseudoRandom
	}
	if lacks := needs &^ p.was.Own.Capabilities; lacks != 0 {
		return cure.Add(cli.Actf("authentication key 0x%04x of the YubiHSM at %s may not do this: it lacks the capability %v", p.was.As.ID, s.device.Address, lacks),
			"name one that may with --auth-key and --password-file")
	}
	return nil
}

// confirm has the serial number of a device typed that is to be erased.
func (s *setting) confirm(ctx context.Context, p *plan) error {
	if p.differs != nil && s.serial != "" {
		// A script that finishes or repeats a set-up does not mean to erase the device.
		return cure.Add(cli.Act(p.differs), "to erase all that is on it, and set it up again, leave out --serial: the terminal asks")
	}
	if !p.erase || s.serial != "" {
		return nil
	}
	what := fmt.Sprintf("the YubiHSM %010d at %s is not empty: %s", s.device.Serial, s.device.Address, contents(p.was))
	switch {
	case p.differs != nil:
		what += fmt.Sprintf("; these words have set it up, but %v", p.differs)
	case p.was.IsFactory() && !s.restore:
		what += "; if that is a set-up that was interrupted, its words finish it, with --restore"
	}
	if s.person == nil {
		return cure.Add(cli.Actf("%s; nothing has changed", what), "to erase all of it, add --serial with the number of the device")
	}
	typed, err := s.person.Ask(ctx, what+".\nAll of this will be erased, and what has no backup is lost. To go on, type the serial number: ")
	if err != nil {
		return err
	}
	if n, err := number(typed); err != nil || n != s.device.Serial {
		return cli.Actf("that is not the serial number of the device; nothing on it has changed")
	}
	return nil
}

// contents says what is on a device.
func contents(was provision.State) string {
	n := map[hsm.ObjectType]int{}
	for _, o := range was.Objects {
		n[o.Type]++
	}
	var list []string
	for _, t := range slices.Sorted(maps.Keys(n)) {
		noun := strings.ReplaceAll(t.String(), "-", " ")
		if t == hsm.TypeOpaque {
			noun += " object"
		}
		list = append(list, cure.Count(n[t], noun))
	}
	return strings.Join(list, ", ")
}

// invent makes new words, and has the person write them down.
func (s *setting) invent(ctx context.Context, p *plan) (err error) {
	host := make([]byte, 32)
	rand.Read(host) // never fails
	defer clear(host)
	if p.words, err = s.device.Words(ctx, p.was.As, host); err != nil {
		return s.refused(err)
	}
	if err := s.person.learn(ctx, p.words); err != nil {
		return err
	}
	// That took a while.
	if _, err := s.device.Look(ctx, p.was.As); err != nil {
		return fmt.Errorf("nothing has changed, and the words are worth nothing: %w", s.refused(err))
	}
	p.secrets, err = provision.Derive(p.words)
	return err
}

// change is what is done on the device.
func (s *setting) change(ctx context.Context, p *plan) error {
	if p.erase {
		if err := s.device.Reset(ctx, p.was.As); err != nil {
			return err
		}
	}
	return s.device.Make(ctx, p.secrets, time.Now())
}

// unfinished says what to type after the device was changed in part.
func (s *setting) unfinished(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = fmt.Errorf("stopped: %w", context.Cause(ctx))
	} else {
		err = s.refused(err)
	}
	return cure.Add(cli.Actf("the device may be set up in part, and may still have the password that everybody knows: %w", err), "%s", s.again("finish it with the same words: "))
}

// again is how to go on with the same words, and what that is for.
func (s *setting) again(why string) string {
	if s.restore {
		return why + "type the same command again"
	}
	return why + "`" + cli.Again("--restore") + "`"
}

// report says what there is now, and what comes next.
func (s *setting) report(p *plan) error {
	did := "is set up"
	if p.begun {
		did = "is set up with these words"
	}
	operator, validator := s.passwordFile("operator"), s.passwordFile("validator")
	text := fmt.Sprintf("the YubiHSM %010d at %s %s\n", s.device.Serial, s.device.Address, did)
	text += "authentication key 1, admin: the 24 words\n"
	for _, f := range passwordFiles {
		text += fmt.Sprintf("authentication key %d, %s: %s\n", f.id, f.role, s.passwordFile(f.role))
	}
	text += "wrap key 1: for backups, in all devices with these words\n"
	if s.restore {
		text += fmt.Sprintf("backups come back with `privyseal yubihsm restore FILE --device %s --auth-key 2 --password-file %s`\n", shell.Word(s.device.Address), shell.Word(operator))
	}
	text += fmt.Sprintf("next: `%s`\n", s.app.Line("init --provider yubihsm --chain-id CHAIN-ID --node ADDR --yubihsm-device %s --yubihsm-auth-key 4 --yubihsm-password-file %s --yubihsm-key-id 1 --yubihsm-admin-auth-key 2 --yubihsm-admin-password-file %s",
		shell.Word(s.device.Address), shell.Word(validator), shell.Word(operator)))
	_, err := io.WriteString(s, text)
	return err
}
