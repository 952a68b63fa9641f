package aiakos

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"privyseal/internal/cli"
	"privyseal/internal/daemon"
	"privyseal/internal/privval"
	"privyseal/internal/provider"
)

// ErrRefused says that a signature is refused for good: it would conflict with what was
// signed before, or lies outside of what the home folder's config allows. Any other error
// means that key or state failed.
var ErrRefused = errors.New("refused to sign")

// signer is what does not depend on the node's types: a chain of a home folder, opened
// when it is first asked.
type signer struct {
	home, chain string

	mu     sync.Mutex
	inside *daemon.Inside
	closed bool
}

// open opens the home folder. After a failure the next call tries again.
func (s *signer) open() (*daemon.Inside, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the signer is closed")
	}
	if s.inside != nil {
		return s.inside, nil
	}
	inside, err := openHome(s.home, s.chain)
	if err != nil {
		return nil, err
	}
	s.inside = inside
	return inside, nil
}

func openHome(home, chain string) (*daemon.Inside, error) {
	table := providers()
	app := &cli.App{HomeFlag: home, Kinds: table.Kinds(), AtHome: table.AtHome()}
	device, err := readDevice()
	if err == nil && device != nil {
		home, err = app.Home()
		table = onDevices(table, device, filepath.Join(home, "..", "config", "priv_validator_key.json"))
	}
	var inside *daemon.Inside
	if err == nil {
		inside, err = daemon.OpenInside(&provider.House{App: app, Providers: table, Stores: stores()}, "inside a node", chain)
	}
	if err != nil {
		return nil, &openError{app.InHome(err.Error()), err}
	}
	return inside, nil
}

// openError is why the home folder cannot be used, with the command that repairs it as it is
// to be typed for that folder.
type openError struct {
	text string
	err  error
}

func (e *openError) Error() string { return "cannot use the key of privyseal: " + e.text }

func (e *openError) Unwrap() error { return e.err }

func (s *signer) publicKey() (privval.PubKey, error) {
	inside, err := s.open()
	if err != nil {
		return privval.PubKey{}, err
	}
	return inside.PubKey(), nil
}

// answer has the payload of a request answered.
func (s *signer) answer(payload []byte) (privval.Response, error) {
	req, err := privval.Decode(payload)
	if err != nil {
		return privval.Response{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	inside, err := s.open()
	if err != nil {
		return privval.Response{}, err
	}
	resp, err := inside.Handle(&req)
	if err != nil {
		return privval.Response{}, err
	}
	if resp.Refused != "" {
		return privval.Response{}, refusal(resp.Refused)
	}
	return resp, nil
}

// refusal is an [ErrRefused] with its reason.
type refusal string

func (r refusal) Error() string { return string(r) }

func (refusal) Is(target error) bool { return target == ErrRefused }

func (s *signer) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.inside != nil {
		s.inside.Close()
	}
	return nil
}
