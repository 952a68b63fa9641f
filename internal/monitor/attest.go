package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"privyseal/internal/hostlink"
)

// attestRequest is what `privyseal nitro attest` asks on the status socket.
type attestRequest struct {
	ChainID string `json:"chain_id"`
	Nonce   []byte `json:"nonce,omitempty"`
}

// serveAttest answers with the document, or with a text that says why not.
func (m *Monitor) serveAttest(w http.ResponseWriter, r *http.Request) {
	var req attestRequest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil || len(req.Nonce) > hostlink.MaxNonce {
		http.Error(w, "malformed request", http.StatusBadRequest)
		return
	}
	if m.Attest == nil {
		http.Error(w, "this signer has no enclave that can attest", http.StatusNotFound)
		return
	}
	doc, err := m.Attest(r.Context(), req.ChainID, req.Nonce)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.Write(doc)
}

// ReadAttestation asks the signer that runs in the home folder for an
// attestation document, raw CBOR, about a chain. It returns [ErrNotRunning] if
// there is none. Nothing in the document was verified.
func ReadAttestation(ctx context.Context, home, chainID string, nonce []byte) ([]byte, error) {
	body, err := json.Marshal(attestRequest{chainID, nonce})
	if err != nil {
		return nil, err
	}
	status, answer, err := ask(ctx, home, http.MethodPost, "/attest", bytes.NewReader(body))
	switch {
	case err != nil:
		return nil, err
	case status != http.StatusOK:
		return nil, fmt.Errorf("the signer does not attest: %s", bytes.TrimSpace(answer))
	case len(answer) == 0:
		return nil, errors.New("the signer's attestation is empty")
	}
	return answer, nil
}
