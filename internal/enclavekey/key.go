// Package enclavekey is a key that an enclave makes or takes in, whatever the TEE: it is asked
// for, what comes back is compared with what was asked for, and it is installed in the home,
// everything or nothing.
//
// The enclave is trusted as far as its document is verified, which is the caller's part
// ([Enclave]). No secret is here: the wrapped key opens inside only.
package enclavekey

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"

	"privyseal/internal/claims"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// Enclave is a running one that a key is asked of.
type Enclave interface {
	Call(ctx context.Context, req hostlink.Request) (hostlink.Reply, error)
	// Verify checks that this enclave, in this boot, made a document just now, for a purpose
	// of package claims, and returns what it says.
	Verify(document []byte, purpose string) (claims.Claims, error)
	// Wraps checks that the files of a new key (Wrapped, Backup) are of it: chainID is "" for
	// an identity.
	Wraps(chainID string, k *Key) error
	// Identity returns the public key of an identity's file that is there, which this enclave
	// has to be able to open. Where no file is it is zero.
	Identity(path string) (pubkey.Key, error)
}

// Key is a key that an enclave has, with what came with it; the zero Key stands for none.
type Key struct {
	Public            pubkey.Key
	*hostlink.Created // nil for an identity that was there already
	Claims            claims.Claims
}

// Make asks for a key and checks that the answer is what was asked for: the document is of
// this enclave and boot, and names the key. Nothing is installed.
func Make(ctx context.Context, e Enclave, chainID string, req hostlink.Request) (k Key, err error) {
	reply, err := e.Call(ctx, req)
	if err != nil {
		return k, err
	}
	if reply.Created == nil || len(reply.Created.Wrapped) == 0 {
		return k, errors.New("the enclave sent no key")
	}
	k.Created = reply.Created
	t, err := pubkey.ParseType(k.KeyType)
	if err != nil {
		return k, err
	}
	if k.Public, err = pubkey.New(t, k.Created.Public); err != nil {
		return k, err
	}
	if k.Claims, err = e.Verify(k.Document, purpose(req)); err != nil {
		return k, fmt.Errorf("the enclave's attestation is not valid, nothing was installed: %w", err)
	}
	if err = k.check(chainID, req); err == nil {
		err = e.Wraps(chainID, &k)
	}
	if err != nil {
		return k, fmt.Errorf("the enclave attests something other than what was requested, nothing was installed: %w", err)
	}
	return k, nil
}

// purpose returns what the document of an answer is for.
func purpose(req hostlink.Request) string {
	if req.Recover != nil {
		return claims.PurposeRecover
	}
	return claims.PurposeCreate
}

// check compares what came back with what was asked for.
func (k *Key) check(chainID string, req hostlink.Request) error {
	c := k.Claims
	if c.Chain != chainID || c.KeyType != k.KeyType || c.Key != claims.EncodeKey(k.Created.Public) {
		return fmt.Errorf("a key %s of chain %q, %s", c.Key, c.Chain, c.Origin)
	}
	origin, mark := claims.Generated, watermark.Mark{}
	switch {
	case req.Recover != nil:
		if !bytes.Equal(k.Created.Public, req.Recover.Public) {
			return errors.New("another public key")
		}
		if c.Origin != claims.RecoveredGenerated && c.Origin != claims.RecoveredImported {
			return fmt.Errorf("a recovered key that is %s", c.Origin)
		}
		return nil // its records are good here
	case req.Import != nil:
		imp := req.Import
		origin = claims.Imported
		mark = watermark.Mark{Height: imp.Height, Round: imp.Round, Step: watermark.Step(imp.Step)}
		if k.KeyType != imp.KeyType || !bytes.Equal(k.Created.Public, imp.Public) {
			return errors.New("another public key")
		}
	case req.Create != nil && k.KeyType != req.Create.KeyType:
		return fmt.Errorf("a key of type %s", k.KeyType)
	}
	if c.Origin != origin {
		return fmt.Errorf("a key %s of chain %q, %s", c.Key, c.Chain, c.Origin)
	}
	if chainID == "" {
		return nil
	}
	return k.begins(mark)
}

// begins checks that the state that came with the key is at a mark.
func (k *Key) begins(mark watermark.Mark) error {
	r, err := hostlink.ReadRecord(k.Record)
	switch {
	case err != nil:
		return err
	case r.Seq != k.Claims.Seq || r.Mark.String() != k.Claims.Mark || k.Claims.Mark != mark.String():
		return fmt.Errorf("a state at %s", k.Claims.Mark)
	}
	return nil
}

// Files returns the files of a key at a path of the config, all that the enclave sent.
func (k *Key) Files(path string) []home.File {
	files := []home.File{{Path: path, Data: k.Wrapped}, {Path: DocumentPath(path), Data: EncodeDocument(k.Document)}}
	if k.Backup != nil {
		files = append(files, home.File{Path: BackupPath(path), Data: k.Backup})
	}
	return files
}

// DocumentPath is where the document of a key is that is at a path.
func DocumentPath(key string) string { return beside(key, ".attestation") }

// BackupPath is where the backup of a key is that is at a path, where there is one.
func BackupPath(key string) string { return beside(key, ".backup") }

func beside(path, ext string) string { return path[:len(path)-len(filepath.Ext(path))] + ext }

// EncodeDocument returns a document as all commands print it.
func EncodeDocument(doc []byte) []byte {
	return append([]byte(base64.StdEncoding.EncodeToString(doc)), '\n')
}
