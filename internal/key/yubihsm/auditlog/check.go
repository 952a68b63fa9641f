package auditlog

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// Report is what the files of one device say.
type Report struct {
	Serial  string `json:"serial"`
	Files   int    `json:"files"`
	Lines   int    `json:"lines"`
	Entries int    `json:"entries"`
	// Signatures are those of the keys that we sign with. Of these, nobody of ours asked for
	// the foreign ones; Probes signed what is too short for any message of a chain, and
	// Before were there when the files began.
	Signatures int `json:"signatures"`
	Matched    int `json:"matched"`
	Probes     int `json:"probes"`
	Before     int `json:"before"`
	// Running says that a signer has begun and not stopped: it runs, or was killed.
	Running bool `json:"running"`
	// Last is when the log was read last, or a signer began or stopped.
	Last time.Time `json:"last,omitzero"`
	// Head is the digest of the last line: who keeps it elsewhere sees later whether the
	// files up to it are still the same.
	Head     string    `json:"head"`
	Findings []Finding `json:"findings"`
	// More is how many findings were left out.
	More int `json:"more,omitempty"`
	bad  int
}

// Bad returns how many findings are such that something has to be done.
func (r *Report) Bad() int { return r.bad }

// maxFindings bounds a report.
const maxFindings = 1000

func (r *Report) add(f Finding) {
	if f.Kind.Bad() {
		r.bad++
	}
	if len(r.Findings) == maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, f)
}

// Check reads the files of a device in a folder from the first one on. Whoever writes them
// may go on meanwhile: what they append is left out, or read.
func Check(folder string, serial uint32) (*Report, error) {
	list, err := volumes(folder, serial)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("there is no audit log of YubiHSM %010d in %s", serial, folder)
	}
	return check(serial, list)
}

// CheckFile is Check for one file, whatever its name.
func CheckFile(path string) (*Report, error) {
	v := volume{path: path}
	r, err := v.open()
	if err != nil {
		return nil, err
	}
	defer r.file.Close()
	head, err := r.next()
	if err != nil {
		return nil, fmt.Errorf("%s is not the audit log of a YubiHSM: %w", path, err)
	}
	v.number = uint32(head.numbers[1])
	return check(uint32(head.numbers[0]), []volume{v})
}

// checking is a check on its way.
type checking struct {
	*Report
	serial uint32
	judge  *judge
	file   string
	line   int
	chain  digest   // that the last file ended with, as far as it is whole
	ended  *Finding // how, if not well
	number uint32
}

func check(serial uint32, list []volume) (*Report, error) {
	c := &checking{Report: &Report{Serial: fmt.Sprintf("%010d", serial), Files: len(list), Findings: []Finding{}}, serial: serial}
	c.judge = newJudge(func(f Finding) {
		f.File, f.Line = c.file, c.line
		c.add(f)
	})
	for i, v := range list {
		if err := c.read(v, i == 0); err != nil {
			return nil, err
		}
	}
	if c.ended != nil {
		c.add(*c.ended)
	}
	j := c.judge
	c.Entries, c.Signatures, c.Matched, c.Probes, c.Before = j.entries, j.signed, j.matched, j.probes, j.before
	c.Running, c.Last, c.Head = j.running, j.at, c.chain.String()
	return c.Report, nil
}

// read has the judge hear one file.
func (c *checking) read(v volume, isFirst bool) error {
	r, err := v.open()
	if err != nil {
		return err
	}
	defer r.file.Close()
	before := c.chain
	c.file = filepath.Base(v.path)
	for {
		rec, err := r.next()
		var damage *damageError
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &damage):
			c.line, c.Lines = damage.line, c.Lines+damage.line
			c.ended = &Finding{Kind: Damage, File: c.file, Line: damage.line, Text: fmt.Sprintf("%s, line %d: %s", c.file, damage.line, damage.why)}
			if damage.torn {
				c.ended.Kind = Torn
			}
			return nil
		case err != nil:
			return err
		}
		c.chain, c.line, c.Lines = r.chain, r.line, c.Lines+1
		if rec.word == wordHead {
			c.head(rec, v, before, isFirst)
		} else {
			c.judge.record(rec)
		}
	}
}

// head judges whether a file is the one after the last.
func (c *checking) head(rec record, v volume, before digest, isFirst bool) {
	serial, number := uint32(rec.numbers[0]), uint32(rec.numbers[1])
	follows := rec.digest == before && (number == c.number+1)
	if isFirst {
		// Those before it may be kept elsewhere.
		follows = number > 1 || rec.digest == digest{}
		c.judge.running = number > 1
	}
	ended := c.ended
	c.ended, c.number = nil, number
	switch {
	case serial != c.serial || number != v.number:
		c.add(Finding{Kind: Damage, File: c.file, Line: 1, Text: fmt.Sprintf("%s is not the file that its name says: it is number %d of YubiHSM %010d", c.file, number, serial)})
	case !follows:
		if ended != nil {
			ended.Kind = Damage
			c.add(*ended)
		}
		c.add(Finding{Kind: Damage, File: c.file, Line: 1, Text: fmt.Sprintf("%s does not continue the file before it, of which the end was changed or removed", c.file)})
	case ended != nil:
		ended.Kind = Torn
		ended.Text += "; a crash has left that, and the next file continues before it"
		c.add(*ended)
	}
}
