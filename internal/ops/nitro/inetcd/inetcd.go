// Package inetcd is the mark of a chain in an enclave that is in etcd, as the host meets it:
// what the enclave is asked to do with it, and what it needs to reach the members. The host
// has no key of the client, and reads no mark but what the enclave says of it.
package inetcd

import (
	"context"
	"errors"
	"fmt"

	"privyseal/internal/hostlink"
	"privyseal/internal/nitrohost"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/regular"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedstate"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// Enclave is one that runs, and that is connected to KMS and to the members.
type Enclave interface {
	// Ask fills in the credentials of a Share.
	Ask(ctx context.Context, share *hostlink.Share) (*hostlink.Shared, error)
	// Floor is the measured state_floor of a chain, 0 without one.
	Floor(chainID string) int64
	Close()
}

// Signer is who reads and writes a mark: a [sharedstate.Signer].
type Signer struct {
	ChainID string
	Key     string // path of the wrapped key
	Members provider.Members
	Open    func(context.Context) (Enclave, error)
}

// Share implements [sharedstate.Signer].
func (s Signer) Share(ctx context.Context, do string, state, floor []byte) (done sharedstate.Done, err error) {
	key, err := read(s.Key)
	if err != nil {
		return done, err
	}
	client, err := Client(s.Members)
	if err != nil {
		return done, err
	}
	certificate, err := client.Certificate()
	if err != nil {
		return done, err
	}
	e, err := s.Open(ctx)
	if err != nil {
		return done, err
	}
	defer e.Close()
	out, err := e.Ask(ctx, &hostlink.Share{
		Do: do, ChainID: s.ChainID, Wrapped: key, State: state, Floor: floor, AfterHeight: e.Floor(s.ChainID),
		Etcd: hostlink.BootEtcd{Endpoints: client.Endpoints, Try: client.Try, Key: client.Key, Certificate: certificate},
	})
	if err != nil {
		return done, err
	}
	if done.Floor, err = hostlink.HostMark(out.Floor); err != nil {
		return done, fmt.Errorf("the enclave sent no floor: %w", err)
	}
	done.Now = watermark.Mark{Height: out.At.Height, Round: out.At.Round, Step: watermark.Step(out.At.Step)}
	if do == sharedstate.ToExport {
		if done.State.Mark, err = hostlink.HostMark(out.State); err != nil {
			err = fmt.Errorf("the enclave sent no state: %w", err)
		}
	}
	return done, err
}

// Known implements [sharedstate.Signer].
func (Signer) Known(floor watermark.Mark) (known watermark.Mark, exported bool, err error) {
	r, err := hostlink.ReadRecord(floor.SignBytes)
	if err != nil {
		return known, false, fmt.Errorf("what this host keeps is no floor of an enclave: %w", err)
	}
	return sharedmark.Known(r.Mark)
}

// Signed returns the mark that a record of the enclave says is signed next, or was.
func Signed(r hostlink.Record) watermark.Mark {
	if known, _, err := sharedmark.Known(r.Mark); err == nil {
		return known
	}
	return r.Mark
}

// Ask asks a running enclave for something.
type Ask func(context.Context, hostlink.Request) (hostlink.Reply, error)

// Look asks for the mark of a chain as etcd has it, at least up to one.
func Look(ctx context.Context, ask Ask, chainID string, upTo watermark.Mark) (watermark.Mark, error) {
	reply, err := ask(ctx, hostlink.Request{Look: &hostlink.Look{ChainID: chainID, Height: upTo.Height, Round: upTo.Round, Step: uint8(upTo.Step)}})
	switch m := reply.Looked; {
	case err != nil:
		return watermark.Mark{}, err
	case m == nil:
		return watermark.Mark{}, errors.New("the enclave does not say where the mark is")
	default:
		return watermark.Mark{Height: m.Height, Round: m.Round, Step: watermark.Step(m.Step), SignBytes: m.SignBytes}, nil
	}
}

// FloorID returns what the enclave calls the floor of a mark.
func FloorID(id watermark.ID) watermark.ID { return sharedmark.Config{ID: id}.FloorID() }

// Client returns what an enclave needs to reach the members.
func Client(m provider.Members) (*nitrohost.Etcd, error) {
	key, err := read(m.Key)
	if err != nil {
		return nil, err
	}
	return &nitrohost.Etcd{Endpoints: m.Endpoints, Try: m.Try, Key: key, Certificate: func() ([]byte, error) { return certificate(m.Certificate) }}, nil
}

// Misplaced says that an enclave with this policy looks for the mark of a chain elsewhere
// than the config has it, and what repairs it.
func Misplaced(p *policy.Policy, chainID string, inEtcd bool) (why, cure string) {
	switch {
	case p.Etcd.Named() && !inEtcd:
		return "the policy of the image has the marks in etcd, and the state of chain " + chainID + " is on this host", "move it with `privyseal state move --to etcd`"
	case !p.Etcd.Named() && inEtcd:
		return "the state of chain " + chainID + " is in a database, and the policy of the image names none", "build an image whose policy does: `privyseal nitro image-policy --etcd-ca FILE …`"
	}
	return "", ""
}

// ToMove says how the state of a new chain comes into the etcd that the image's policy names.
func ToMove(a *provider.House, key, chain string) string {
	return fmt.Sprintf("the policy of the image has the marks in etcd, and it signs once this one is there: have the CA of etcd's clients sign what %s prints, with NAME the user in etcd, and then move the state: %s",
		a.Command("nitro etcd-client --user NAME --out %s", shell.Word(key)),
		a.Command("state move --chain-id %s --to etcd --etcd-endpoints ENDPOINT --etcd-ca-file CA --etcd-certificate-file CERTIFICATE --etcd-key-file %s", shell.Word(chain), shell.Word(key)))
}

func read(path string) ([]byte, error) {
	data, _, err := regular.ReadOurs(path, 64<<10)
	if err != nil {
		return nil, fmt.Errorf("cannot use the wrapped key %s: %w", path, err)
	}
	return data, nil
}

func certificate(path string) ([]byte, error) {
	text, _, err := regular.ReadOurs(path, hostlink.MaxCertificate)
	if err == nil && len(text) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate %s of the enclave's client: %w", path, err)
	}
	return text, nil
}
