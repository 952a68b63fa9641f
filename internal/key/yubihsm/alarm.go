package yubihsm

import (
	"errors"
	"log/slog"
	"strings"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm/auditlog"
	hsm "privyseal/yubihsm"
)

// logSize is how many entries the log of a device has room for.
const logSize = 62

// alarm says what is new about the log of a device. It belongs to one goroutine.
type alarm struct {
	d       *device
	log     *slog.Logger // nil: nobody hears
	problem error        // why the log is not drained
	filling bool         // that it fills up was said
	lacking bool         // so was that it lacks signatures
}

// drained hears that the log was drained, and what was found in it, or why it was not.
func (a *alarm) drained(err error, found []auditlog.Finding) {
	isNews := (err == nil) != (a.problem == nil)
	a.problem = err
	a.d.mu.Lock()
	a.d.status.Log.Problem = err
	if err == nil {
		a.d.status.Log.Drained = time.Now()
	}
	for _, f := range found {
		if f.Kind == auditlog.Foreign {
			a.d.status.Log.Foreign += f.Count
			a.d.foreign[f.Key] += f.Count
		}
	}
	a.d.mu.Unlock()
	if a.log == nil {
		return
	}
	log := a.log.With("address", a.d.address)
	if err == nil || len(found) > 0 {
		a.say(log, found)
	}
	switch {
	case isNews && err != nil:
		log.Error("the log of a YubiHSM is not drained; with force-audit on, the device signs nothing once it is full",
			"error", strings.ReplaceAll(explainDrain(a.d.address, err).Error(), "\n", "; "))
	case isNews:
		log.Info("the log of a YubiHSM is drained")
	}
}

// say says what was found in the log. A device that does not log signatures at all is said
// once.
func (a *alarm) say(log *slog.Logger, found []auditlog.Finding) {
	lacked := a.lacking
	a.lacking = false
	for _, f := range found {
		switch {
		case f.Kind == auditlog.Foreign:
			log.Error("a YubiHSM signed what no signer of ours asked for", "text", f.Text)
		case f.Kind == auditlog.Missing:
			if a.lacking = true; !lacked {
				log.Error("the log of a YubiHSM lacks signatures", "text", f.Text)
			}
		case f.Kind.Bad():
			log.Error("the log of a YubiHSM does not continue", "text", f.Text)
		default:
			log.Warn("signatures in the log of a YubiHSM cannot be matched", "text", f.Text)
		}
	}
}

// has hears how many entries are in the log.
func (a *alarm) has(used int) {
	a.d.mu.Lock()
	a.d.status.Log.Used, a.d.status.Log.Size = used, logSize
	a.d.mu.Unlock()
	isFilling := 4*used >= 3*logSize
	if isFilling && !a.filling && a.log != nil {
		a.log.Error("the log of a YubiHSM fills up; with force-audit on, the device signs nothing once it is full", "address", a.d.address, "entries", used, "of", logSize)
	}
	a.filling = isFilling
}

// explainDrain adds what to do about a log that is not drained.
func explainDrain(address string, err error) error {
	var refused *hsm.DeviceError
	switch {
	case errors.As(err, &refused) && refused.Code == hsm.InsufficientPermissions:
		return cure.Add(err, "give the signer an authentication key that may drain the log: %s", DrainCommand(address))
	case errors.Is(err, auditlog.ErrInUse):
		return cure.Add(err, "end the other one, or remove audit_dir from its config")
	}
	return err
}

// DrainCommand is the command that makes an authentication key which signs and drains the
// log of the device at an address.
func DrainCommand(address string) string {
	return cure.Command("yubihsm-shell", "--connector", address, "--authkey", "ADMIN", "--action", "put-authentication-key", "--object-id", "NEW", "--label", "privyseal",
		"--domains", "all", "--capabilities", "sign-eddsa,sign-ecdsa,get-log-entries,get-option", "--delegated", "none")
}
