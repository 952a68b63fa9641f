package collateral

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/sgx"
	"privyseal/internal/strictjson"
)

const (
	// intelURL is Intel's service, and intelList where it publishes the root's list of what it
	// has revoked.
	intelURL  = "https://api.trustedservices.intel.com/sgx/certification/v4/"
	intelList = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	// maxAnswer bounds in bytes what is read of one answer, maxHeader of its header.
	maxAnswer = 1 << 20
	maxHeader = 64 << 10
	timeout   = 30 * time.Second
)

// service is a Provisioning Certification Service, version 4, or a cache of one. What it
// answers is signed by Intel, so all it can do is withhold something.
type service struct {
	client *http.Client
	base   *url.URL // of SGX; ends in a slash
	list   string
}

// newService returns the one at a URL. The zero caFile is for those whom this system trusts.
func newService(base, list, caFile string) (*service, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, cli.Usagef("--url %.200q is not a URL as %s", base, intelURL)
	}
	if l, err := url.Parse(list); err != nil || l.Scheme != "https" || l.Host == "" {
		return nil, cli.Usagef("--root-crl-url %.200q is not a URL as %s", list, intelList)
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := cli.ReadBounded(caFile, 1<<16)
		if err != nil {
			return nil, cli.OfFlag("tls-ca", err)
		}
		if settings.RootCAs = x509.NewCertPool(); !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, cli.Usagef("--tls-ca %s has no certificate in PEM", caFile)
		}
	}
	return &service{base: u, list: list, client: &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it redirects elsewhere") },
		Transport:     &http.Transport{TLSClientConfig: settings, Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: maxHeader},
	}}, nil
}

// get returns the body of an answer, and the chain that a header of it has.
func (s *service) get(ctx context.Context, address string, headers ...string) (body []byte, chain string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, "", fmt.Errorf("cannot reach the service: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("%s answers %s", address, response.Status)
	}
	if body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1)); err != nil {
		return nil, "", fmt.Errorf("%s: %w", address, err)
	}
	if len(body) > maxAnswer {
		return nil, "", fmt.Errorf("%s answers more than %d bytes", address, maxAnswer)
	}
	for _, name := range headers {
		if text := response.Header.Get(name); text != "" {
			if chain, err = url.PathUnescape(text); err != nil {
				return nil, "", fmt.Errorf("the header %s of %s is not escaped as in a URL", name, address)
			}
			return body, chain, nil
		}
	}
	if len(headers) > 0 {
		return nil, "", fmt.Errorf("%s answers without the header %s", address, headers[0])
	}
	return body, "", nil
}

// platform is a model of platforms, and for what their quotes are.
type platform struct {
	tee   string // SGX, TDX
	fmspc [6]byte
	ca    string // processor, platform
}

// fetch gets everything. Nothing of it is verified then.
func (s *service) fetch(ctx context.Context, p platform) (*sgx.Collateral, error) {
	c := &sgx.Collateral{}
	of := *s.base
	if p.tee == "TDX" {
		of.Path = strings.Replace(of.Path, "/sgx/", "/tdx/", 1)
	}
	for _, signed := range []struct {
		address, member string
		text, chain     *string
		signature       *sgx.Hex
		headers         []string
	}{
		{of.JoinPath("tcb").String() + "?fmspc=" + hex.EncodeToString(p.fmspc[:]), "tcbInfo", &c.TCBInfo, &c.TCBInfoChain, &c.TCBSignature,
			[]string{"TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"}},
		{of.JoinPath("qe/identity").String(), "enclaveIdentity", &c.Identity, &c.IdentityChain, &c.IDSignature, []string{"SGX-Enclave-Identity-Issuer-Chain"}},
	} {
		body, chain, err := s.get(ctx, signed.address, signed.headers...)
		if err != nil {
			return nil, err
		}
		if *signed.text, *signed.signature, err = split(body, signed.member); err != nil {
			return nil, fmt.Errorf("%s: %w", signed.address, err)
		}
		*signed.chain = chain
	}
	var err error
	if c.PCKCRL, c.PCKCRLChain, err = s.get(ctx, s.base.JoinPath("pckcrl").String()+"?ca="+p.ca+"&encoding=der", "SGX-PCK-CRL-Issuer-Chain"); err != nil {
		return nil, err
	}
	if c.RootCRL, _, err = s.get(ctx, s.list); err != nil {
		return nil, err
	}
	// Caches answer in hex.
	if der, err := hex.DecodeString(string(bytes.TrimSpace(c.RootCRL))); err == nil {
		c.RootCRL = der
	}
	return c, nil
}

// split takes what is signed out of an answer, byte for byte, and the signature.
func split(body []byte, member string) (string, sgx.Hex, error) {
	var members map[string]json.RawMessage
	if err := strictjson.Unmarshal(body, &members); err != nil {
		return "", nil, fmt.Errorf("the answer is not JSON: %w", err)
	}
	var text string
	if err := json.Unmarshal(members["signature"], &text); err != nil || members[member] == nil {
		return "", nil, fmt.Errorf("the answer has no %s with a signature", member)
	}
	signature, err := hex.DecodeString(text)
	if err != nil {
		return "", nil, errors.New("the signature in the answer is not hex")
	}
	return string(members[member]), signature, nil
}
