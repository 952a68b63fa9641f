package sgx

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/enclaveask"
	"privyseal/internal/enclavechain/sharing"
	"privyseal/internal/enclavehost"
	"privyseal/internal/enclavekey"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/policy"
	"privyseal/internal/pubkey"
	"privyseal/internal/sgx"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/sigstruct"
	"privyseal/internal/sgxhost"
)

// enclaveLink is a conversation with an enclave that this process launched for it.
type enclaveLink struct {
	name   string
	config Enclave
	isNew  bool // the config does not have it yet
	*folder

	launcher *sgxhost.Launcher
	id       string // of what runs
	enclaveask.Conversation
}

// maxBackup bounds the files that an enclave has written, or is to read.
const maxBackup = 64 << 10

// folder is what the files of an enclave say. The processor compares the program that it
// starts with the signature; that the policy is the measured one, the enclave says.
type folder struct {
	signature *sigstruct.Signature
	policy    *policy.Policy
	digest    [32]byte // of the policy file
}

// readFolder reads the files of an enclave.
func readFolder(path string) (*folder, error) {
	f := &folder{}
	raw, err := cli.ReadBounded(filepath.Join(path, sgxhost.SignatureFile), sigstruct.Size)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, cmp.Or(sgxhost.Missing(path), err)
	case err != nil:
		return nil, err
	}
	if f.signature, err = sigstruct.Parse(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(path, sgxhost.SignatureFile), err)
	}
	if f.signature.MayDebug() {
		return nil, cure.Add(fmt.Errorf("the enclave in %s is signed for debug mode, in which this host reads its memory", path), "make the manifest again with `privyseal sgx manifest`, and sign that")
	}
	data, err := cli.ReadBounded(filepath.Join(path, policy.File), policy.MaxSize)
	if err != nil {
		return nil, err
	}
	if f.policy, err = policy.Parse(data, policy.OfSGX); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(path, policy.File), err)
	}
	f.digest = sha256.Sum256(data)
	return f, nil
}

// withCure adds what repairs the files of an enclave, where an error does not say so itself.
func withCure(err error, next string) error {
	if _, cured := errors.AsType[*cure.Error](err); cured {
		return err
	}
	return cure.Add(err, "%s", next)
}

var words = enclaveask.Words{
	Silent: "it may wait for memory: `dmesg | grep -i sgx` says how much EPC this host has, and `pgrep -af sgx/loader` which enclaves run",
	Other:  "make the manifest again with `privyseal sgx manifest`, sign it, and try again",
	// The kernel adds and measures each page of the enclave, 2 GiB of them, and swaps others out
	// where there is not so much EPC. One that has ended is not waited for.
	Boot: 10 * time.Minute,
}

// link returns the enclave that the flags mean, which is not launched yet.
func (f *enclaveFlags) link(c *config.Config) (e *enclaveLink, err error) {
	e = &enclaveLink{}
	if cmd := f.cmd; cmd != nil {
		e.Waiting = func(so time.Duration) {
			fmt.Fprintf(cmd.ErrOrStderr(), "the enclave is loading, %v so far\n", so.Round(time.Second))
		}
	}
	if e.name, e.config, e.isNew, err = enclaves.Choose(c, &f.Choice); err != nil {
		return nil, err
	}
	if e.folder, err = readFolder(e.config.Folder); err != nil && f.Want.Folder != "" {
		err = cli.OfFlag("sgx-folder", err)
	}
	return e, err
}

// allows says at once that the policy does not let a chain sign, which the enclave would say
// when it runs already.
func (e *enclaveLink) allows(chainID string) error {
	if e.policy.AllowsChain(chainID) {
		return nil
	}
	why, cure := keyFiles.NotForChain(chainID)
	return cli.Usagef("%s; %s", why, cure)
}

// begin launches an enclave for this conversation, whatever others run, and connects to it. db
// is the database that it is connected to; it may be nil.
func (e *enclaveLink) begin(ctx context.Context, db *sharing.Database) error {
	e.launcher = e.config.launcher(slog.New(slog.DiscardHandler))
	found, _, err := e.launcher.Ensure(ctx)
	if err != nil {
		return err
	}
	e.id = found.ID
	if err = e.serve(ctx, found.Link, db); err == nil {
		err = e.Connect(ctx, found.Link, e.digest, words)
	}
	if err != nil {
		e.Close()
	}
	return err
}

// launcher returns the launcher of an enclave, whose paths are absolute.
func (e Enclave) launcher(log *slog.Logger) *sgxhost.Launcher {
	return &sgxhost.Launcher{Gramine: e.GramineSGX, Folder: e.Folder, Log: log}
}

// serve connects the enclave to a database.
func (e *enclaveLink) serve(ctx context.Context, link enclavehost.Link, db *sharing.Database) error {
	if db == nil {
		return nil
	}
	for _, p := range db.Ports(e.policy) {
		if err := e.Serve(ctx, link, p.Number, p.What, p.Handle); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the conversation, and the enclave with it.
func (e *enclaveLink) Close() {
	e.Conversation.Close()
	if e.id != "" {
		e.launcher.Stop(context.Background(), e.id) // what it made is here, or is not needed
	}
}

// Verify implements [enclavekey.Enclave]. Without collateral it is not proved that a CPU of
// Intel's made the quote: this host is not who has to be convinced.
func (e *enclaveLink) Verify(raw []byte, purpose string) (claims.Claims, error) {
	d, err := document.Decode(raw)
	if err != nil {
		return claims.Claims{}, err
	}
	quote, err := sgx.Parse(d.Quote)
	if err != nil {
		return claims.Claims{}, err
	}
	expected := document.ReportData(d.UserData, d.Nonce, d.PublicKey)
	enclave := quote.Enclave
	switch {
	case enclave == nil || enclave.Debug():
		return claims.Claims{}, errors.New("the quote is not of an SGX enclave outside of debug mode")
	case enclave.MRENCLAVE != e.signature.MRENCLAVE || enclave.MRSIGNER != e.signature.MRSIGNER:
		return claims.Claims{}, fmt.Errorf("the quote is of the enclave %x, and the signature in %s of %x", enclave.MRENCLAVE, e.config.Folder, e.signature.MRENCLAVE)
	case enclave.ReportData != expected:
		return claims.Claims{}, errors.New("the quote is not of this document")
	}
	if err := e.genuine(quote); err != nil {
		return claims.Claims{}, err
	}
	c, err := claims.Decode(d.UserData)
	switch {
	case err != nil:
		return c, err
	case c.Purpose != purpose || c.Boot != e.Boot() || c.Seal != e.policy.Seal || c.Recipient != e.policy.Recipient().ID():
		return c, fmt.Errorf("the document is for %q, of boot %s, seal %q and recovery key %s: it is not the one that was requested", c.Purpose, c.Boot, c.Seal, c.Recipient)
	}
	return c, nil
}

// genuine verifies the quote up to Intel's root, if there is collateral. In which state the
// platform is, is for those who rely on it to judge.
func (e *enclaveLink) genuine(quote *sgx.Quote) error {
	if e.config.Collateral == "" {
		return nil
	}
	c, err := readCollateral(e.config.Collateral)
	if err != nil {
		return err
	}
	anchor, err := anchorOf(e.policy)
	if err != nil {
		return err
	}
	_, err = quote.Verify(c, anchor, time.Now())
	return err
}

func readCollateral(path string) (*sgx.Collateral, error) {
	text, err := cli.ReadBounded(path, sgx.MaxCollateral)
	if err != nil {
		return nil, err
	}
	c, err := sgx.ParseCollateral(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// anchorOf returns the root of quotes: Intel's, but in tests.
func anchorOf(p *policy.Policy) (sgx.Anchor, error) {
	if p.AttestationRoot == "" {
		return sgx.Anchor{}, nil
	}
	return sgx.ParseAnchor([]byte(p.AttestationRoot))
}

// Wraps implements [enclavekey.Enclave].
func (e *enclaveLink) Wraps(chainID string, k *enclavekey.Key) error {
	s, err := sgxseal.Inspect(k.Wrapped)
	if err != nil {
		return err
	}
	if s.ChainID != chainID || s.Seal != k.Claims.Seal || !bytes.Equal(s.Public, k.Created.Public) {
		return errors.New("the sealed key is another one")
	}
	if k.Claims.Purpose != claims.PurposeCreate {
		return nil
	}
	b, err := sgxseal.InspectBackup(k.Backup)
	if err != nil {
		return err
	}
	if b.ChainID != chainID || b.Recipient != k.Claims.Recipient || !bytes.Equal(b.Public, k.Created.Public) {
		return errors.New("the backup is of another key, or for another recovery key")
	}
	return nil
}

// Identity implements [enclavekey.Enclave].
func (e *enclaveLink) Identity(path string) (pubkey.Key, error) {
	there, err := keyFiles.Read(path, "")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return pubkey.Key{}, nil
	case err != nil:
		return pubkey.Key{}, err
	case there.Opener != e.policy.Seal:
		return pubkey.Key{}, cli.Actf("the identity %s is sealed by %s, and the policy of the enclave says %s; give this enclave a home of its own", path, there.Opener, e.policy.Seal)
	}
	return there.PublicKey, nil
}
