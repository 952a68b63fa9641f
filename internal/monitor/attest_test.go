package monitor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"privyseal/internal/hostlink"
)

// The running signer hands a request for an attestation on, and its answer back.
func TestAttest(t *testing.T) {
	home := t.TempDir()
	if _, err := ReadAttestation(t.Context(), home, "chain-1", nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a signer: %v", err)
	}
	l, err := ListenStatus(home)
	if err != nil {
		t.Fatal(err)
	}
	m := New(slog.New(slog.DiscardHandler), "v1")
	nonce := bytes.Repeat([]byte{7}, hostlink.MaxNonce)
	m.Attest = func(_ context.Context, chainID string, got []byte) ([]byte, error) {
		switch {
		case chainID != "chain-1":
			return nil, errors.New("no such chain")
		case !bytes.Equal(got, nonce):
			return nil, nil
		}
		return []byte("document"), nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- m.ServeStatus(ctx, l) }()
	defer func() {
		cancel()
		<-served
	}()

	doc, err := ReadAttestation(t.Context(), home, "chain-1", nonce)
	if err != nil || string(doc) != "document" {
		t.Errorf("%q, %v", doc, err)
	}
	for name, tt := range map[string]struct {
		chain string
		nonce []byte
		want  string
	}{
		"refused":         {"chain-2", nonce, "no such chain"},
		"empty":           {"chain-1", nil, "is empty"},
		"a nonce too big": {"chain-1", make([]byte, hostlink.MaxNonce+1), "malformed"},
	} {
		if _, err := ReadAttestation(t.Context(), home, tt.chain, tt.nonce); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m.Attest = nil
	if _, err := ReadAttestation(t.Context(), home, "chain-1", nonce); err == nil || !strings.Contains(err.Error(), "no enclave") {
		t.Errorf("without an enclave: %v", err)
	}
}
