package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"privyseal/internal/key/vault/vaulttest"
)

const vaultBatches = 80

// vault compares votes that a real OpenBao server signs with what they cannot take less
// than: the same bytes signed by a bare call of that server, a durable write, one
// verification, and a round trip to the signer.
func (b *bench) vault(ctx context.Context) ([]row, error) {
	if _, err := output(ctx, filepath.Join(b.root, "scripts", "setup"), "openbao"); err != nil {
		return nil, err
	}
	dir := b.path("openbao")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	server, err := vaulttest.Launch(dir)
	if errors.Is(err, vaulttest.ErrMissing) {
		leftOut("keys on a Vault server: " + err.Error())
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(server.Root), 0o600); err != nil {
		return nil, err
	}
	h := &home{b: b, dir: b.path("vault")}
	err = h.init(ctx, "vault", "--provider", "vault", "--vault-address", server.URL, "--vault-ca-file", server.CAFile, "--vault-token-file", token)
	if err != nil {
		return nil, err
	}
	if err := h.moveMetrics(); err != nil {
		return nil, err
	}
	s, err := b.serve(ctx, h, "vault")
	if err != nil {
		return nil, err
	}
	defer s.close()
	call, err := bareCall(server)
	if err != nil {
		return nil, err
	}
	raw, err := newRawFile(filepath.Join(h.dir, "state", "vault.mark"))
	if err != nil {
		return nil, err
	}
	defer raw.f.Close()
	floor := newFloor(raw, s.nodes[0])
	if err := floor.sign(); err != nil {
		return nil, err
	}
	var votes, least samples
	err = byTurns(ctx, []func() error{
		func() error { return s.nodes[0].timedPrevotes(batchSize, &votes) },
		func() error {
			for range batchSize {
				err := least.timed(func() error { return errors.Join(raw.write(), call(floor.message), floor.verify(), floor.n.ping()) })
				if err != nil {
					return err
				}
			}
			return nil
		},
	}, vaultBatches)
	if err != nil {
		return nil, s.p.failed(err)
	}
	return []row{
		atMost(1.2, "key on a Vault server, request to reply: prevote, p50", votes, 50, "write, transit, verify, ping", least),
	}, s.p.stop()
}

// bareCall returns a call that has the server sign, with nothing of ours in it.
func bareCall(server *vaulttest.Server) (func(message []byte) error, error) {
	pem, err := os.ReadFile(server.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	return func(message []byte) error {
		text, err := json.Marshal(map[string]any{"input": message, "key_version": 1})
		if err != nil {
			return err
		}
		req, err := http.NewRequest(http.MethodPost, server.URL+"/v1/transit/sign/vault", bytes.NewReader(text))
		if err != nil {
			return err
		}
		req.Header.Set("X-Vault-Token", server.Root)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("the server does not sign: %s: %s", resp.Status, body)
		}
		return err
	}, nil
}
