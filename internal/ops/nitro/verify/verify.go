// Package verify says what an attestation document of a Nitro Enclave proves, and what
// not: offline, on any machine, for operators and delegators alike.
//
// It trusts AWS's root, the clock or the time that it is given, and the image that the
// caller names. What a document says in its user data counts only as far as that image
// is one that says the truth.
package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/awspolicy"
	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/eif"
	"privyseal/internal/home"
	"privyseal/internal/nitro"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/policy"
	"privyseal/internal/pubkey"
	"privyseal/internal/statement"
	"privyseal/internal/strictjson"
)

// Image says which enclave image is expected.
type Image struct {
	EIF, PCR0, PCR1, policy string
	any                     bool
	pcr3, pcr4, pcr8        string
	testRoot                string
	Ours                    bool // a file that is not an image of ours is refused
}

func (f *Image) Add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.EIF, "eif", "", "the image that is expected")
	fl.StringVar(&f.PCR0, "pcr0", "", "PCR0 of the image that is expected, hex")
	fl.StringVar(&f.PCR1, "pcr1", "", "PCR1 of the release that is expected, hex; goes with --policy")
	fl.StringVar(&f.policy, "policy", "", "policy file of the image that is expected; goes with --pcr1")
	fl.StringVar(&f.pcr3, "pcr3", "", "PCR3 that is expected, hex, or the ARN of the IAM role")
	fl.StringVar(&f.pcr4, "pcr4", "", "PCR4 that is expected, hex, or the id of the instance")
	fl.StringVar(&f.pcr8, "pcr8", "", "PCR8 that is expected, hex: the certificate that signed the image")
	fl.StringVar(&f.testRoot, "test-root", "", "PEM file of a test root to trust instead of the one that is built in")
}

// read turns the flags into an expectation.
func (f *Image) read() (e Expectation, err error) {
	e.pcrs = map[int][]byte{}
	var p *policy.Policy
	switch {
	case f.policy != "" && f.PCR1 == "":
		return e, cli.Usagef("--policy goes with --pcr1: the kernel and program of a release")
	case f.PCR1 != "" && f.policy == "":
		return e, cli.Usagef("--pcr1 goes with --policy: kernel and program prove nothing about the policy that they run with")
	case f.any && (f.EIF != "" || f.PCR0 != "" || f.PCR1 != ""):
		return e, cli.Usagef("--any-image says that no image is expected; it does not go with --eif, --pcr0 or --pcr1")
	}
	if f.EIF != "" {
		im, err := image.Read(f.EIF)
		if err != nil {
			return e, cli.OfFlag("eif", err)
		}
		m := im.Measure()
		e.pcrs[0], e.pcrs[1], e.pcrs[2] = m.PCR0[:], m.PCR1[:], m.PCR2[:]
		if im.SignedBy() != nil {
			e.pcrs[8] = m.PCR8[:]
		}
		if p, err = image.Policy(im); err != nil {
			return e, fmt.Errorf("%s: %w", f.EIF, err)
		}
		if e.foreign = p == nil; e.foreign && f.Ours {
			return e, fmt.Errorf("--eif %s is not an image of `privyseal nitro build`, and so may run any program; name the one that you built", f.EIF)
		}
		e.program = image.Program(im)
	}
	if f.policy != "" {
		if p, err = image.ReadPolicy(f.policy); err != nil {
			return e, cli.OfFlag("policy", err)
		}
		second, err := image.PolicyRamdisk(p)
		if err != nil {
			return e, err
		}
		pcr2 := eif.PCR2(second)
		if err := e.expect(2, pcr2[:], "--policy"); err != nil {
			return e, err
		}
	}
	if err := f.readPCRs(&e); err != nil {
		return e, err
	}
	e.named = e.pcrs[0] != nil || e.pcrs[1] != nil && e.pcrs[2] != nil
	e.release, e.Policy = f.PCR1 != "", p
	e.Anchor, err = f.root(p)
	return e, err
}

// readPCRs adds the registers that have flags of their own.
func (f *Image) readPCRs(e *Expectation) error {
	for _, flag := range []struct {
		register int
		text     string
	}{{0, f.PCR0}, {1, f.PCR1}, {3, f.pcr3}, {4, f.pcr4}, {8, f.pcr8}} {
		if flag.text == "" {
			continue
		}
		value, err := parsePCR(flag.register, flag.text)
		if err != nil {
			return err
		}
		if err := e.expect(flag.register, value, fmt.Sprintf("--pcr%d", flag.register)); err != nil {
			return err
		}
	}
	return nil
}

// root returns what the document's certificates have to end in: AWS's root, or
// one that the caller names. A policy that names another is no reason to believe
// that: image and document may come from the same hand. Nor is a KMS that is not
// AWS's: the same hand may be at it, and knows the key then.
func (f *Image) root(p *policy.Policy) (anchor nitro.Anchor, err error) {
	if f.testRoot != "" {
		pem, err := cli.ReadBounded(f.testRoot, 1<<16)
		if err != nil {
			return anchor, cli.OfFlag("test-root", err)
		}
		if anchor, err = nitro.ParseAnchor(pem); err != nil {
			return anchor, fmt.Errorf("--test-root %s: %w", f.testRoot, err)
		}
	}
	if p == nil {
		return anchor, nil
	}
	if p.AttestationRoot != "" {
		named, err := nitro.ParseAnchor([]byte(p.AttestationRoot))
		if err != nil {
			return anchor, err
		}
		if named.Fingerprint() != anchor.Fingerprint() {
			return anchor, fmt.Errorf("this image is for tests: its policy trusts an attestation root that is not AWS's, %s, and whoever holds its key can make any document; only if it is a root of your own, name it with --test-root FILE", named.Fingerprint())
		}
	}
	if err := p.CheckKMS(); err != nil && f.testRoot == "" {
		return anchor, fmt.Errorf("this image is for tests: its policy trusts a KMS that is not known to be AWS's (%w), and whoever runs it knows every key; only if all of this is your own, say so with --test-root FILE", err)
	}
	return anchor, nil
}

// explain adds to the hashes that were wanted what they are hashes of.
func (f *Image) explain(m nitro.Mismatches) nitro.Mismatches {
	for i := range m {
		for field, text := range map[string]string{"PCR3": f.pcr3, "PCR4": f.pcr4} {
			if m[i].Field == field && (strings.HasPrefix(text, "arn:") || strings.HasPrefix(text, "i-")) {
				m[i].Want += " of " + text
			}
		}
	}
	return m
}

// expect adds a register. Two flags that contradict each other cannot be meant.
func (e *Expectation) expect(i int, value []byte, flag string) error {
	if old := e.pcrs[i]; old != nil && !bytes.Equal(old, value) {
		return cli.Usagef("%s and --eif name different images: PCR%d is %x and %x", flag, i, value, old)
	}
	e.pcrs[i] = value
	return nil
}

// parsePCR reads a register: hex, or for 3 and 4 what it is the hash of.
func parsePCR(i int, text string) ([]byte, error) {
	if i == 3 && strings.HasPrefix(text, "arn:") || i == 4 && strings.HasPrefix(text, "i-") {
		if err := map[int]func(string) error{3: awspolicy.CheckRole, 4: awspolicy.CheckInstance}[i](text); err != nil {
			return nil, cli.Usagef("--pcr%d: %w", i, err)
		}
		pcr := nitro.ParentPCR(text)
		return pcr[:], nil
	}
	value, err := hex.DecodeString(text)
	if err != nil || len(value) != 48 {
		return nil, cli.Usagef("--pcr%d %.100q is not 96 hex digits", i, text)
	}
	if i < 3 && bytes.Count(value, []byte{0}) == 48 {
		return nil, cli.Usagef("--pcr%d zero is that of an enclave in debug mode, which proves nothing", i)
	}
	return value, nil
}

// Documents are the attestation documents of enclaves, for `privyseal verify`.
func Documents() *home.Documents {
	return &home.Documents{
		Noun: "an attestation document of a Nitro enclave",
		Help: `An attestation document of a Nitro enclave, raw or in base64, of "privyseal init",
"privyseal nitro attest" or tmkms-light: its signature and its certificates are checked up
to AWS's root, the time, the image that made it, and what it says about a validator's key.
Anybody can have a document of just any program, so the image has to be named: by the file
itself, --eif, by --pcr0, or by --pcr1 of a release (kernel and program) with the policy
file, --policy. --any-image checks a document without, and proves nothing about privyseal.
With --eif or --policy it also prints what the image's policy permits. A document is valid
for three hours. To check an older one, say with --at when you received it. Only a --nonce of
your own, that was given to "privyseal nitro attest", proves that a document is new.`,
		Example:  "privyseal verify attestation.b64 --eif privyseal.eif --chain-id chain-1 --nonce 5f1d…",
		Verifier: func() home.Verifier { return &Flags{} },
	}
}

// Flags are those of `privyseal verify` for such documents. It is a [home.Verifier].
type Flags struct {
	Image                  Image
	chainID, kmsKey, nonce string
}

// Add implements [home.Verifier].
func (f *Flags) Add(cmd *cobra.Command) {
	f.Image.Add(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.Image.any, "any-image", false, "expect no image; proves nothing about privyseal")
	fl.StringVar(&f.chainID, "chain-id", "", "chain that is expected")
	fl.StringVar(&f.kmsKey, "kms-key", "", "ARN of the KMS key that is expected")
	fl.StringVar(&f.nonce, "nonce", "", "nonce that is expected, hex")
}

// Recognises implements [home.Verifier].
func (f *Flags) Recognises(document []byte) bool {
	raw := decode(document)
	return raw != nil && (raw[0]>>5 == cborArray || raw[0]>>5 == cborTag)
}

// The first three bits of what stands for a document in CBOR, good or not.
const (
	cborArray = 4
	cborTag   = 6
)

// Verify implements [home.Verifier].
func (f *Flags) Verify(w io.Writer, document []byte, want home.Expected) error {
	v, err := f.Check(decode(document), want)
	if err != nil {
		return err
	}
	return v.report(w)
}

// ReadDocument reads a file with a document that is raw or in base64, also with the title
// that tmkms-light prints before it.
func ReadDocument(path string) ([]byte, error) {
	data, err := cli.ReadBounded(path, 1<<16)
	if err != nil {
		return nil, err
	}
	raw := decode(data)
	if raw == nil {
		return nil, fmt.Errorf("%s is not an attestation document, raw or in base64", path)
	}
	return raw, nil
}

// decode returns the document in what a file holds, nil for something else.
func decode(data []byte) []byte {
	// An array of four, as no text in base64 begins.
	if len(data) > 0 && data[0] == 0x84 {
		return data
	}
	text := string(data)
	if i := strings.LastIndex(text, ":"); i >= 0 {
		text = text[i+1:]
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || len(raw) == 0 {
		return nil
	}
	return raw
}

// Check checks a document, as [ReadDocument] returns it, against the flags.
func (f *Flags) Check(raw []byte, expected home.Expected) (*Verified, error) {
	e, err := f.Image.read()
	if err != nil {
		return nil, err
	}
	v := &Verified{Expectation: e, nonce: f.nonce != "", at: expected.At}
	want := nitro.Expect{PCRs: e.pcrs, AnyImage: f.Image.any}
	if f.nonce != "" {
		if want.Nonce, err = hex.DecodeString(f.nonce); err != nil {
			return nil, cli.Usagef("--nonce %.80q is not hex", f.nonce)
		}
	}
	if v.Doc, err = nitro.Parse(raw); err != nil {
		return nil, err
	}
	if err := v.Doc.Verify(v.Anchor, v.at); err != nil {
		return nil, withCure(err, v.Doc)
	}
	checkErr := want.Check(v.Doc)
	if !e.named && !f.Image.any {
		return nil, fmt.Errorf("%w; add --eif FILE, --pcr0 HEX, or --pcr1 HEX with --policy FILE; with --any-image the document is checked all the same", checkErr)
	}
	var mismatches nitro.Mismatches
	if checkErr != nil {
		m, ok := checkErr.(nitro.Mismatches)
		if !ok {
			return nil, checkErr
		}
		mismatches = f.Image.explain(m)
	}
	var statementErr error
	if v.Statement, statementErr = statementOf(v.Doc); f.Image.any {
		statementErr = nil
	}
	switch mismatches = append(mismatches, f.compare(v.Statement, expected.PublicKey)...); {
	case len(mismatches) > 0 && statementErr != nil:
		return nil, fmt.Errorf("%w\n  %w", mismatches, statementErr)
	case len(mismatches) > 0:
		return nil, mismatches
	case statementErr != nil:
		return nil, statementErr
	}
	return v, nil
}

// withCure adds what to do about a document of another time.
func withCure(err error, d *nitro.Document) error {
	if errors.Is(err, nitro.ErrTime) {
		return fmt.Errorf("%w; if you received it earlier, say when with --at (it says that it was made at %s)", err, d.Time.Format(time.RFC3339))
	}
	return err
}

// statementOf reads the user data.
func statementOf(d *nitro.Document) (Statement, error) {
	if light, ok := lightClaims(d.UserData); ok {
		return light, nil
	}
	s, err := statement.Read(d.UserData)
	return Statement{Statement: s, Ours: err == nil}, err
}

// lightClaims reads the user data of tmkms-light (key generation of its Nitro
// provider): a public key and the name of a KMS key, both in base64.
func lightClaims(data []byte) (Statement, bool) {
	var light struct {
		PubKey []byte `json:"pubkey"`
		KeyID  []byte `json:"key_id"`
	}
	if err := strictjson.Decode(data, &light); err != nil || len(light.KeyID) == 0 || !claims.Printable(string(light.KeyID)) {
		return Statement{}, false
	}
	key, err := pubkey.New(pubkey.Ed25519, light.PubKey)
	if err != nil {
		return Statement{}, false
	}
	return Statement{foreign: true, Statement: statement.Statement{PublicKey: key, Claims: claims.Claims{
		KeyType: string(pubkey.Ed25519), Key: claims.EncodeKey(light.PubKey), KMSKey: string(light.KeyID),
	}}}, true
}

// compare checks the flags against what the document says of a key.
func (f *Flags) compare(t Statement, publicKey string) (m nitro.Mismatches) {
	t.Compare(f.chainID, publicKey, func(field, got, want string) {
		m = append(m, nitro.Mismatch{Field: field, Got: got, Want: want})
	})
	if f.kmsKey != "" && t.KMSKey != f.kmsKey {
		m = append(m, nitro.Mismatch{Field: "KMS key", Got: t.KMSKey, Want: f.kmsKey})
	}
	return m
}
