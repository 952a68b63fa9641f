package sgx

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"privyseal/internal/strictjson"
)

// Status is what Intel says of a state in which a platform can be, in its words.
type Status string

// All that there are, the worst last.
const (
	UpToDate               Status = "UpToDate"
	HardeningNeeded        Status = "SWHardeningNeeded" // in the enclave's code
	configurationNeeded    Status = "ConfigurationNeeded"
	configurationHardening Status = "ConfigurationAndSWHardeningNeeded"
	outOfDate              Status = "OutOfDate"
	outOfDateConfiguration Status = "OutOfDateConfigurationNeeded"
	revoked                Status = "Revoked"
)

// statuses are in the order of the constants.
var statuses = []Status{UpToDate, HardeningNeeded, configurationNeeded, configurationHardening, outOfDate, outOfDateConfiguration, revoked}

// ParseStatus reads one that a policy may accept.
func ParseStatus(text string) (Status, error) {
	s := Status(text)
	if !slices.Contains(statuses, s) || s == revoked {
		return "", fmt.Errorf("%.60q is not a status of Intel's that can be accepted; those are %s", text, strings.Trim(fmt.Sprint(statuses[:len(statuses)-1]), "[]"))
	}
	return s, nil
}

// with returns what a platform is that is s, with a part that is other. An old part makes a
// platform old whose configuration is to be looked at (Intel's QVL), and else the worse of
// the two counts.
func (s Status) with(other Status) Status {
	old := other == outOfDate || other == outOfDateConfiguration
	if old && (s == configurationNeeded || s == configurationHardening) {
		return outOfDateConfiguration
	}
	return statuses[max(slices.Index(statuses, s), slices.Index(statuses, other))]
}

// Level is one state of a platform, or a part of it, and what Intel says about it.
type Level struct {
	Status     Status
	Advisories []string  // INTEL-SA-…: what can be wrong in this state
	Date       time.Time // the state is that of all that was known then
}

// with returns the level of a platform with one of a part of it.
func (l Level) with(part Level) Level {
	all := append(slices.Clone(l.Advisories), part.Advisories...)
	slices.Sort(all)
	date := l.Date
	if part.Date.Before(date) {
		date = part.Date
	}
	return Level{l.Status.with(part.Status), slices.Compact(all), date}
}

// ParseAdvisory checks the name of an advisory, as INTEL-SA-00615.
func ParseAdvisory(text string) error {
	digits, is := strings.CutPrefix(text, "INTEL-SA-")
	if !is || len(digits) != 5 || strings.Trim(digits, "0123456789") != "" {
		return fmt.Errorf("%.60q is not an advisory such as INTEL-SA-00615", text)
	}
	return nil
}

// Limits of lists in Intel's collateral. Real ones have 20 levels, and 30 advisories.
const (
	maxLevels     = 200
	maxAdvisories = 200
	maxModules    = 100
)

// levelText is what all levels have, as JSON of Intel's.
type levelText struct {
	Date       time.Time `json:"tcbDate"`
	Status     Status    `json:"tcbStatus"`
	Advisories []string  `json:"advisoryIDs"`
}

func (l levelText) level() (Level, error) {
	if !slices.Contains(statuses, l.Status) || l.Date.IsZero() || len(l.Advisories) > maxAdvisories {
		return Level{}, fmt.Errorf("a level has the status %.40q, the date %s, and %d advisories", l.Status, l.Date, len(l.Advisories))
	}
	for _, a := range l.Advisories {
		if err := ParseAdvisory(a); err != nil {
			return Level{}, err
		}
	}
	return Level{l.Status, l.Advisories, l.Date}, nil
}

// svnLevel is a level of an enclave, or of a TDX module, by its SVN.
type svnLevel struct {
	TCB struct {
		SVN *uint16 `json:"isvsvn"`
	} `json:"tcb"`
	levelText
}

// levelBySVN returns the first level that svn is at or above. Intel's lists descend.
func levelBySVN(list []svnLevel, svn uint16) (Level, error) {
	if len(list) == 0 || len(list) > maxLevels {
		return Level{}, fmt.Errorf("there are %d levels", len(list))
	}
	for i, l := range list {
		if l.TCB.SVN == nil || i > 0 && *l.TCB.SVN >= *list[i-1].TCB.SVN {
			return Level{}, errors.New("its levels do not descend")
		}
	}
	for _, l := range list {
		if svn >= *l.TCB.SVN {
			return l.level()
		}
	}
	return Level{}, fmt.Errorf("%w: the SVN %d is below all levels", errLevel, svn)
}

// hexText is hex of Intel's, in capitals or not.
type hexText []byte

func (h *hexText) UnmarshalJSON(text []byte) (err error) {
	*h, err = hex.DecodeString(strings.Trim(string(text), `"`))
	if err != nil {
		return errors.New("a value is not hex")
	}
	return nil
}

// head is what TCB info and QE identity begin with.
type head struct {
	ID         string    `json:"id"`
	Version    int       `json:"version"`
	Issued     time.Time `json:"issueDate"`
	Next       time.Time `json:"nextUpdate"`
	Evaluation uint32    `json:"tcbEvaluationDataNumber"`
}

func (h head) check(version int, ids ...string) error {
	if h.Version != version || !slices.Contains(ids, h.ID) || h.Issued.IsZero() || h.Next.IsZero() {
		return fmt.Errorf("it is %.20q in version %d, with the dates %s and %s", h.ID, h.Version, h.Issued, h.Next)
	}
	return nil
}

// tcbInfo is Intel's TCB info v3: the states in which the platforms of one FMSPC can be.
type tcbInfo struct {
	head
	FMSPC   hexText    `json:"fmspc"`
	PCEID   hexText    `json:"pceId"`
	Type    int        `json:"tcbType"`
	Levels  []tcbLevel `json:"tcbLevels"`
	Module  *module    `json:"tdxModule"`
	Modules []module   `json:"tdxModuleIdentities"`
}

type tcbLevel struct {
	TCB struct {
		SGX []component `json:"sgxtcbcomponents"`
		PCE *uint16     `json:"pcesvn"`
		TDX []component `json:"tdxtcbcomponents"`
	} `json:"tcb"`
	levelText
}

type component struct {
	SVN uint8 `json:"svn"`
}

// module is a TDX module, and the states in which it can be.
type module struct {
	ID         string     `json:"id"` // TDX_03
	MRSIGNER   hexText    `json:"mrsigner"`
	Attributes hexText    `json:"attributes"`
	Mask       hexText    `json:"attributesMask"`
	Levels     []svnLevel `json:"tcbLevels"`
}

// teeTDXName is how Intel calls collateral for trust domains; the other is SGX.
const teeTDXName = "TDX"

func parseTCBInfo(text []byte) (*tcbInfo, error) {
	var t tcbInfo
	err := strictjson.Unmarshal(text, &t)
	if err == nil {
		err = t.head.check(3, "SGX", teeTDXName)
	}
	if err == nil {
		err = t.check()
	}
	if err != nil {
		return nil, fmt.Errorf("the TCB info is malformed: %w", err)
	}
	// As Intel's QVL does: the order of the text does not count.
	slices.SortStableFunc(t.Levels, func(a, b tcbLevel) int {
		bySVN := func(a, b component) int { return cmp.Compare(b.SVN, a.SVN) }
		return cmp.Or(slices.CompareFunc(a.TCB.SGX, b.TCB.SGX, bySVN), cmp.Compare(*b.TCB.PCE, *a.TCB.PCE), slices.CompareFunc(a.TCB.TDX, b.TCB.TDX, bySVN))
	})
	return &t, nil
}

func (t *tcbInfo) check() error {
	switch {
	case len(t.FMSPC) != 6 || len(t.PCEID) != 2 || t.Type != 0:
		return fmt.Errorf("it is for the FMSPC %x and the PCE %x, of type %d", t.FMSPC, t.PCEID, t.Type)
	case len(t.Levels) == 0 || len(t.Levels) > maxLevels || len(t.Modules) > maxModules:
		return fmt.Errorf("it has %d levels and %d modules", len(t.Levels), len(t.Modules))
	case (t.ID == teeTDXName) != (t.Module != nil):
		return errors.New("a TDX module is there without trust domains, or these without that")
	}
	for _, l := range t.Levels {
		if len(l.TCB.SGX) != tcbComponents || l.TCB.PCE == nil || t.ID == teeTDXName && len(l.TCB.TDX) != tcbComponents {
			return fmt.Errorf("a level has %d and %d components", len(l.TCB.SGX), len(l.TCB.TDX))
		}
	}
	return nil
}

// level returns that of a platform: the first of which it reaches everything. A trust
// domain's report, td, has levels of its own.
func (t *tcbInfo) level(p Platform, td *TD) (Level, error) {
	for _, l := range t.Levels {
		if p.PCESVN >= *l.TCB.PCE && reaches(p.CPUSVN, l.TCB.SGX, 0) && (td == nil || reaches(td.TEETCBSVN, l.TCB.TDX, td.firstOwn())) {
			return l.level()
		}
	}
	return Level{}, fmt.Errorf("%w: CPUSVN %x with PCESVN %d is below all levels", errLevel, p.CPUSVN, p.PCESVN)
}

// firstOwn returns the first SVN of a trust domain's report that counts for its platform. The
// two before it are those of the TDX module, which has levels of its own from version 1 on
// (Intel's QVL, TcbLevelCheck).
func (d *TD) firstOwn() int {
	if d.moduleVersion() > 0 {
		return 2
	}
	return 0
}

func (d *TD) moduleVersion() byte { return d.TEETCBSVN[1] }

// reaches reports whether each SVN from the first one on is as high as is wanted.
func reaches(have [16]byte, want []component, first int) bool {
	for i, c := range want {
		if i >= first && have[i] < c.SVN {
			return false
		}
	}
	return true
}

// moduleLevel checks the TDX module of a trust domain, and returns its level: that of its
// version, the second of the domain's SVNs. Version 0 has none of its own.
func (t *tcbInfo) moduleLevel(td *TD) (Level, error) {
	m := t.Module
	if version := td.moduleVersion(); version > 0 {
		name := fmt.Sprintf("TDX_%02X", version)
		i := slices.IndexFunc(t.Modules, func(m module) bool { return strings.EqualFold(m.ID, name) })
		if i < 0 {
			return Level{}, fmt.Errorf("%w: there is no TDX module %s in it", errLevel, name)
		}
		m = &t.Modules[i]
	}
	if !bytes.Equal(td.MRSIGNERSEAM[:], m.MRSIGNER) || !masked(td.SEAMAttributes[:], m.Attributes, m.Mask, true) {
		return Level{}, fmt.Errorf("%w: its TDX module is signed by %x with the attributes %x, and not one of Intel's", errLevel, td.MRSIGNERSEAM, td.SEAMAttributes)
	}
	if m == t.Module {
		return Level{Status: UpToDate, Date: t.Issued}, nil
	}
	l, err := levelBySVN(m.Levels, uint16(td.TEETCBSVN[0]))
	if err != nil {
		return Level{}, fmt.Errorf("of the TDX module %s: %w", m.ID, err)
	}
	return l, nil
}

// masked reports whether got is want in the bits of mask; if only, it has no other bits.
func masked(got, want, mask []byte, only bool) bool {
	if len(want) != len(got) || len(mask) != len(got) {
		return false
	}
	for i := range got {
		if (got[i]^want[i])&mask[i] != 0 || only && got[i]&^mask[i] != 0 {
			return false
		}
	}
	return true
}

// qeIdentity is Intel's identity of a quoting enclave, v2.
type qeIdentity struct {
	head
	MiscSelect hexText    `json:"miscselect"`
	MiscMask   hexText    `json:"miscselectMask"`
	Attributes hexText    `json:"attributes"`
	Mask       hexText    `json:"attributesMask"`
	MRSIGNER   hexText    `json:"mrsigner"`
	ProductID  *uint16    `json:"isvprodid"`
	Levels     []svnLevel `json:"tcbLevels"`
}

func parseQEIdentity(text []byte) (*qeIdentity, error) {
	var q qeIdentity
	err := strictjson.Unmarshal(text, &q)
	if err == nil {
		err = q.head.check(2, "QE", "TD_QE")
	}
	if err == nil && q.ProductID == nil {
		err = errors.New("it names no product")
	}
	if err != nil {
		return nil, fmt.Errorf("the QE identity is malformed: %w", err)
	}
	return &q, nil
}

// level checks the report of a quoting enclave, and returns its level.
func (q *qeIdentity) level(report []byte) (Level, error) {
	e := enclaveOf(&reader{rest: report})
	switch {
	case e.Debug():
		return Level{}, fmt.Errorf("%w: its quoting enclave", errDebug)
	case !bytes.Equal(e.MRSIGNER[:], q.MRSIGNER) || e.ProductID != *q.ProductID ||
		!masked(report[16:20], q.MiscSelect, q.MiscMask, false) || !masked(e.Attributes[:], q.Attributes, q.Mask, false):
		return Level{}, fmt.Errorf("%w: its quoting enclave, product %d of %x, is not one of Intel's", errLevel, e.ProductID, e.MRSIGNER)
	}
	l, err := levelBySVN(q.Levels, e.SVN)
	if err != nil {
		return Level{}, fmt.Errorf("of the quoting enclave: %w", err)
	}
	return l, nil
}
