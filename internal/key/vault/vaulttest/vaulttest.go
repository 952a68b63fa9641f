// Package vaulttest runs a real OpenBao server for tests: with a certificate of its
// own, its data in memory, unsealed, with a transit engine. Tests of the vault key, of
// the program and of real nodes share it. No program imports it.
package vaulttest

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ErrMissing says that `scripts/setup openbao` has not brought the server.
var ErrMissing = errors.New("the OpenBao server is missing; `scripts/setup openbao` brings it")

// Server is an OpenBao server that runs until Stop.
type Server struct {
	URL    string // https://127.0.0.1:PORT
	Plain  string // http://127.0.0.1:PORT, the same server without TLS
	CAFile string // PEM of the only certificate that leads to URL's
	Root   string // the root token

	unsealKey string
	client    *http.Client
	cmd       *exec.Cmd
	output    *tail
	ended     chan struct{}
}

// Start runs a server until the test ends. Without the program the test is skipped,
// or fails where PRIVYSEAL_REQUIRE_OPENBAO is 1.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Launch(t.TempDir())
	Need(t, err)
	t.Cleanup(s.Stop)
	return s
}

// Need ends a test for an error of Launch: with a skip where the program is missing and
// PRIVYSEAL_REQUIRE_OPENBAO is not 1.
func Need(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrMissing) && os.Getenv("PRIVYSEAL_REQUIRE_OPENBAO") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Launch runs a server whose files lie in dir. The caller stops it.
func Launch(dir string) (*Server, error) {
	bao, err := program()
	if err != nil {
		return nil, err
	}
	s := &Server{CAFile: filepath.Join(dir, "ca.pem")}
	pool, err := writeCertificate(s.CAFile, filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 4}}
	// A port that is free now may be taken when the server asks for it.
	for range 5 {
		if err = s.run(bao, dir); err == nil || !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if err := s.initialize(); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// program returns the path of the server's program.
func program() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if setup := filepath.Join(dir, "scripts", "setup"); isFile(setup) {
			bin, err := exec.Command(setup, "bin").Output()
			if err != nil {
				return "", fmt.Errorf("cannot run %s: %w", setup, err)
			}
			if path := filepath.Join(strings.TrimSpace(string(bin)), "bao"); isFile(path) {
				return path, nil
			}
			return "", ErrMissing
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no folder above this one has scripts/setup")
		}
		dir = filepath.Dir(dir)
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// run starts the program and waits until it listens.
func (s *Server) run(bao, dir string) error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	s.URL, s.Plain = "https://"+ports[0], "http://"+ports[1]
	config := filepath.Join(dir, "server.hcl")
	text := fmt.Sprintf(`
		storage "inmem" {}
		listener "tcp" {
			address = %q
			tls_cert_file = %q
			tls_key_file = %q
		}
		listener "tcp" {
			address = %q
			tls_disable = true
		}
		api_addr = %q
		log_level = "warn"
	`, ports[0], s.CAFile, filepath.Join(dir, "key.pem"), ports[1], s.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	r, w := io.Pipe()
	s.output, s.ended = &tail{}, make(chan struct{})
	s.cmd = exec.Command(bao, "server", "-config="+config)
	s.cmd.Env = []string{"HOME=" + dir}
	s.cmd.SysProcAttr = endsWithUs()
	s.cmd.Stdout, s.cmd.Stderr = w, w
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(s.ended)
		s.cmd.Wait()
		w.Close()
	}()
	if s.output.until(r, "server started") {
		go io.Copy(s.output, r)
		return nil
	}
	s.Stop()
	return fmt.Errorf("the OpenBao server does not start:\n%s", s.output)
}

func freePorts(n int) (list []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		list = append(list, l.Addr().String())
	}
	return list, nil
}

// Stop kills the server and waits for its end.
func (s *Server) Stop() {
	s.cmd.Process.Kill()
	<-s.ended
	s.client.CloseIdleConnections()
}

// Freeze stops the process where it is, as a machine that hangs; Thaw lets it go on.
func (s *Server) Freeze(t testing.TB) { t.Helper(); s.signal(t, stopSignal) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw(t testing.TB) { t.Helper(); s.signal(t, goOnSignal) }

func (s *Server) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// initialize makes the server's keys, unseals it and mounts the engines.
func (s *Server) initialize() error {
	answer, err := s.request("POST", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1})
	if err != nil {
		return err
	}
	var made struct {
		Keys      []string `json:"keys"`
		RootToken string   `json:"root_token"`
	}
	if err := json.Unmarshal(answer, &made); err != nil || len(made.Keys) != 1 {
		return fmt.Errorf("cannot read the server's keys: %w", err)
	}
	s.unsealKey, s.Root = made.Keys[0], made.RootToken
	for _, step := range []struct {
		path string
		body map[string]any
	}{
		{"sys/unseal", map[string]any{"key": s.unsealKey}},
		{"sys/mounts/transit", map[string]any{"type": "transit"}},
		{"sys/auth/approle", map[string]any{"type": "approle"}},
	} {
		if _, err := s.request("POST", step.path, step.body); err != nil {
			return err
		}
	}
	return nil
}

// Do calls the server with the root token and returns the data of the answer. The test
// fails where the server refuses.
func (s *Server) Do(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	answer, err := s.request(method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &whole); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"data", "auth"} {
		if data, ok := whole[part].(map[string]any); ok {
			return data
		}
	}
	return whole
}

// Seal seals the server: it forgets its keys until Unseal.
func (s *Server) Seal(t testing.TB) { t.Helper(); s.Do(t, "POST", "sys/seal", nil) }

// Unseal unseals the server.
func (s *Server) Unseal(t testing.TB) {
	t.Helper()
	s.Do(t, "POST", "sys/unseal", map[string]any{"key": s.unsealKey})
}

// Policy writes a policy.
func (s *Server) Policy(t testing.TB, name, rules string) {
	t.Helper()
	s.Do(t, "POST", "sys/policies/acl/"+name, map[string]any{"policy": rules})
}

// Token returns a new token with the policies, which expires after ttl.
func (s *Server) Token(t testing.TB, ttl time.Duration, policies ...string) string {
	t.Helper()
	auth := s.Do(t, "POST", "auth/token/create", map[string]any{"policies": policies, "ttl": ttl.String(), "no_default_policy": true, "no_parent": true})
	return auth["client_token"].(string)
}

// AppRole makes a role and returns what logs in as it. Settings are those of
// auth/approle/role.
func (s *Server) AppRole(t testing.TB, name string, settings map[string]any) (roleID, secretID string) {
	t.Helper()
	s.Do(t, "POST", "auth/approle/role/"+name, settings)
	roleID = s.Do(t, "GET", "auth/approle/role/"+name+"/role-id", nil)["role_id"].(string)
	return roleID, s.SecretID(t, name)
}

// SecretID returns a new secret id of a role.
func (s *Server) SecretID(t testing.TB, role string) string {
	t.Helper()
	return s.Do(t, "POST", "auth/approle/role/"+role+"/secret-id", nil)["secret_id"].(string)
}

// request calls the server with the root token and returns the answer.
func (s *Server) request(method, path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, s.URL+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", s.Root)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode > 299 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, nil
}

// writeCertificate makes a certificate for 127.0.0.1 that vouches for itself.
func writeCertificate(certFile, keyFile string) (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vaulttest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"vault.test"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool, errors.Join(os.WriteFile(certFile, cert, 0o644),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

// tail keeps what a program wrote while it started.
type tail struct{ lines bytes.Buffer }

// Write forgets b: the pipe must not fill up.
func (*tail) Write(b []byte) (int, error) { return len(b), nil }

func (t *tail) String() string { return t.lines.String() }

// until reads lines until one has the text; false if the program ends before.
func (t *tail) until(r io.Reader, text string) bool {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fmt.Fprintln(&t.lines, lines.Text())
		if strings.Contains(lines.Text(), text) {
			return true
		}
	}
	return false
}
