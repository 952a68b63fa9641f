package yubihsm

import (
	"context"
	"fmt"

	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/provider"
	hsm "privyseal/yubihsm"
)

// inspection is one device that is looked at.
type inspection struct {
	*provider.Report
	login   reach.Login
	address string
	line    int
	drains  bool // the signer drains the log
}

func (in inspection) add(v provider.Verdict, next, format string, args ...any) {
	in.Add(v, in.line, reach.Table, fmt.Sprintf(format, args...), next)
}

// found is what a device says about itself and its log.
type found struct {
	info  hsm.DeviceInfo
	force hsm.Audit                 // AuditOff if we may not ask
	logs  map[hsm.Command]hsm.Audit // which commands it logs; nil if we may not ask
	may   hsm.Capabilities          // what our authentication key may do
	open  bool                      // it has an authentication key with the factory's label
}

// look asks a device.
func (in inspection) look(ctx context.Context, s *hsm.Session) (f found, err error) {
	if f.info, err = s.DeviceInfo(ctx); err != nil {
		return f, fmt.Errorf("cannot use the YubiHSM at %s: %w", in.address, err)
	}
	// Not every authentication key may ask for the rest.
	if force, err := s.ForceAudit(ctx); err == nil {
		f.force = force
	}
	if logs, err := s.CommandAudit(ctx); err == nil {
		f.logs = logs
	}
	own, err := s.ObjectInfo(ctx, hsm.TypeAuthenticationKey, in.login.ID)
	if err != nil {
		return f, fmt.Errorf("cannot look at %s: %w", reach.ObjectAt("authentication key", in.login.ID, in.address), err)
	}
	f.may = own.Capabilities
	if first, err := s.ObjectInfo(ctx, hsm.TypeAuthenticationKey, factoryKey); err == nil {
		f.open = first.Label == factoryLabel
	}
	return f, nil
}

// The authentication key of a device as it leaves the factory. Everybody knows its password.
const (
	factoryKey   = 1
	factoryLabel = "DEFAULT AUTHKEY CHANGE THIS ASAP"
)

// factory adds a row about a device that has the factory's authentication key, as a set-up
// that was cut off leaves it. A password that was changed leaves the label as it was.
func (in inspection) factory(f found) {
	if f.open {
		in.add(provider.Unsure, fmt.Sprintf("finish a set-up that was cut off: %s; or give the device another administrator, and delete this one", cure.Command("privyseal", "yubihsm", "setup", "--device", in.address, "--restore")),
			"%s has the administrator that it left the factory with: who reaches the device can do everything there, unless the password was changed", in.address)
	}
}

// log adds a row if the log keeps the device from signing, or soon will.
func (in inspection) log(f found) {
	if f.force == hsm.AuditOff || f.info.LogUsed*4 < f.info.LogSize*3 {
		return
	}
	verdict := provider.Unsure
	if f.info.LogUsed >= f.info.LogSize {
		verdict = provider.Bad
	}
	in.add(verdict, "drain it with "+cure.Command("privyseal", "yubihsm", "audit", "--out", "DIR")+", or turn force-audit off",
		"%s has %d of %d entries in its log, and signs nothing when it is full: force-audit is on", in.address, f.info.LogUsed, f.info.LogSize)
}

// audit adds rows about who drains the log, and what is in it.
func (in inspection) audit(table string, f found) {
	if !in.drains {
		if f.force != hsm.AuditOff {
			in.add(provider.Bad, fmt.Sprintf("add audit_dir = \"audit\" to [%s.%s]", reach.Table, table),
				"force-audit is on, and nothing drains the log of %s: it will be full soon, and the device sign nothing", in.address)
		}
		return
	}
	option := func(value string) string {
		return cure.Command("yubihsm-shell", "--connector", in.address, "--authkey", "ADMIN", "--action", "put-option", "--opt-name", "command-audit", "--opt-value", value)
	}
	// With the first, some devices cannot be read once their log is full (yubihsm-shell #509);
	// without the second, nothing says which device it is that starts with a full log.
	locks := f.logs[hsm.CommandSessionMessage] != hsm.AuditOff || f.logs[hsm.CommandGetDeviceInfo] != hsm.AuditOff
	switch signs := f.logs[hsm.CommandSignEdDSA] != hsm.AuditOff && f.logs[hsm.CommandSignECDSA] != hsm.AuditOff; {
	case !f.may.Has(hsm.GetLogEntries):
		in.add(provider.Bad, "give the signer another one: "+yubihsm.DrainCommand(in.address),
			"the signer cannot drain the log of %s: its authentication key 0x%04x lacks the capability %v", in.address, in.login.ID, hsm.GetLogEntries)
	case f.logs == nil:
		in.add(provider.Unsure, "", "the signer drains the log of %s; whether signatures are in it cannot be seen without the capability %v", in.address, hsm.GetOption)
	case !signs:
		in.add(provider.Bad, option("6a015601"), "%s does not log signatures, so that the audit finds none", in.address)
	case f.force != hsm.AuditOff && locks:
		in.add(provider.Bad, option("05000600"), "%s logs each message of a session, or each question who it is, and force-audit is on: when its log is full it may not be possible to drain it", in.address)
	default:
		in.add(provider.Good, "", "the signer drains the log of %s, which has its signatures", in.address)
	}
}

// What is said of a connector that is not on this host.
const (
	elsewhere     = "%s is not on this host: whoever reaches it can use the device with the password, and who listens on the way can guess a weak one"
	elsewhereCure = "run the connector on this host, on 127.0.0.1, and reach it through a tunnel if it has to be another one"
)
