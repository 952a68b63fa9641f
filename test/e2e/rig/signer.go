package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Signer is privyseal with a home of its own.
type Signer struct {
	*Process // nil until Start

	Program string
	Home    string
	Listen  string // host:port of the metrics
}

// InitSigner runs `privyseal init` with a port of its own for the metrics and a
// log that shows each signature.
func InitSigner(ctx context.Context, program, home, chainID string, nodes []string, more ...string) (*Signer, error) {
	args := []string{"init", "--home", home, "--chain-id", chainID}
	for _, n := range nodes {
		args = append(args, "--node", n)
	}
	if _, err := Output(ctx, program, append(args, more...)...); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	s := &Signer{Program: program, Home: home, Listen: fmt.Sprintf("127.0.0.1:%d", port)}
	for key, value := range map[string]string{"listen": s.Listen, "level": "debug", "format": "json"} {
		if err := s.Configure(key, strconv.Quote(value)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Configure changes the first value of that name in privyseal.toml.
func (s *Signer) Configure(key, value string) error {
	path := filepath.Join(s.Home, "privyseal.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	line := regexp.MustCompile(`(?m)^` + key + `( *)= .*$`)
	at := line.FindIndex(text)
	if at == nil {
		return fmt.Errorf("%s has no %s", path, key)
	}
	changed := string(text[:at[0]]) + key + " = " + value + string(text[at[1]:])
	return os.WriteFile(path, []byte(changed), 0o600)
}

// Key prints the key in a format of `privyseal key show`.
func (s *Signer) Key(ctx context.Context, format string) (string, error) {
	out, err := Output(ctx, s.Program, "key", "show", "--home", s.Home, "--format", format)
	return strings.TrimSpace(out), err
}

// Start starts `privyseal start`.
func (s *Signer) Start() error {
	p, err := StartProcess("privyseal", filepath.Join(s.Home, "privyseal.log"), s.Program, "start", "--home", s.Home)
	s.Process = p
	return err
}

// Metrics returns the metrics by name and labels, as they are written.
func (s *Signer) Metrics(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Listen+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	metrics := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			metrics[line[:at]] = v
		}
	}
	return metrics, lines.Err()
}

// Proof is what a witness showed of a second signer: the chain's signature.
type Proof struct {
	Height    int64
	SignBytes []byte
	Signature []byte
}

// Proof reads the one proof in the home.
func (s *Signer) Proof() (p Proof, err error) {
	files, err := filepath.Glob(filepath.Join(s.Home, "evidence", "*.json"))
	if err != nil || len(files) != 1 {
		return p, fmt.Errorf("%d proofs in %s, want 1: %w", len(files), s.Home, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return p, err
	}
	var e struct {
		Height int64 `json:"height,string"`
		Chain  struct {
			SignBytes []byte `json:"sign_bytes"`
			Signature []byte `json:"signature"`
		} `json:"on_chain"`
	}
	err = json.Unmarshal(text, &e)
	return Proof{e.Height, e.Chain.SignBytes, e.Chain.Signature}, err
}

// MustAct is the exit status by which a signer says that an operator must act.
const MustAct = 79

// WaitMustAct waits for the signer to end with the exit status MustAct.
func (s *Signer) WaitMustAct(ctx context.Context) error {
	select {
	case <-s.Done():
	case <-ctx.Done():
		return fmt.Errorf("%s signs on: %w\n%s", s.Name, context.Cause(ctx), s.Tail(30))
	}
	if exit, _ := errors.AsType[*exec.ExitError](s.Err()); exit == nil || exit.ExitCode() != MustAct {
		return fmt.Errorf("%s ended with %v\n%s", s.Name, s.Err(), s.Tail(30))
	}
	return nil
}

// Signed is one signature as the log shows it.
type Signed struct {
	Chain  string        `json:"chain_id"`
	Node   string        `json:"node"`
	Kind   string        `json:"kind"`
	Height int64         `json:"height"`
	Round  int32         `json:"round"`
	Took   time.Duration `json:"took"`
	// Repeated says that it was signed before, but for its timestamp.
	Repeated bool `json:"repeated"`
}

// ParseSigned reads a line of privyseal's log; ok is false if it reports no
// signature.
func ParseSigned(line []byte) (s Signed, ok bool) {
	var entry struct {
		Message string `json:"msg"`
		Signed
	}
	if json.Unmarshal(line, &entry) != nil || entry.Message != "signed" {
		return Signed{}, false
	}
	return entry.Signed, true
}
