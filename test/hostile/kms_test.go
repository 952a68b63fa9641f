package hostile

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/key/nitrokms/kmstest"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/test/nitro/rig"
)

// refusesToBoot boots v with whatever is wrong now, and expects the problem to be reported.
func (e *running) refusesToBoot(v *validator, name, want string) {
	e.w.t.Helper()
	if s := e.boot(v); s.Problem == "" || !strings.Contains(s.Problem, want) {
		e.w.t.Errorf("%s: %+v, want %q", name, s, want)
	}
	if len(e.current().dialled(v.chain)) > 0 {
		e.w.t.Errorf("%s: a node was dialled", name)
	}
}

// envelope seals a plaintext to the key of the last document: all that it takes is
// in there, and not secret.
func envelope(t *testing.T, to, plain []byte) string {
	t.Helper()
	sealed, err := kmstest.Seal(to, plain)
	if err != nil {
		t.Error(err)
	}
	return base64.StdEncoding.EncodeToString(sealed)
}

// Answers that KMS would never give, at boot and at the making of a key: nothing is
// signed with what is in them, the operator learns of it, and the right answer repairs it.
func TestWrongKMSAnswers(t *testing.T) {
	ofNitro(t)
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.halt()
	e = w.boot(w.honest(d))

	for name, tc := range map[string]struct {
		change func(rig.KMSCall, *rig.KMSAnswer)
		want   string
	}{
		"garbage":           {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Raw = []byte("garbage") }, "malformed"},
		"an empty body":     {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Raw = []byte{} }, "malformed"},
		"an empty object":   {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Raw = []byte("{}") }, "malformed"},
		"a list":            {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Raw = []byte("[]") }, "malformed"},
		"null":              {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Raw = []byte("null") }, "malformed"},
		"deep":              {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Raw = bytes.Repeat([]byte("["), 60<<10) }, "malformed"},
		"a long one":        {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Raw = bytes.Repeat([]byte(" "), 1<<20) }, "malformed"},
		"another key's ARN": {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Body["KeyId"] = keyARN[:len(keyARN)-1] + "6" }, "malformed"},
		"no ARN":            {func(_ rig.KMSCall, a *rig.KMSAnswer) { delete(a.Body, "KeyId") }, "malformed"},
		"in clear":          {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Body["Plaintext"] = bytes.Repeat([]byte{7}, 32) }, "in the clear"},
		"in clear only": {func(_ rig.KMSCall, a *rig.KMSAnswer) {
			delete(a.Body, "CiphertextForRecipient")
			a.Body["Plaintext"] = bytes.Repeat([]byte{7}, 32)
		}, "in the clear"},
		"no envelope": {func(_ rig.KMSCall, a *rig.KMSAnswer) { delete(a.Body, "CiphertextForRecipient") }, "envelope"},
		"a flipped envelope": {func(_ rig.KMSCall, a *rig.KMSAnswer) {
			a.Body["CiphertextForRecipient"] = flip(a.Body["CiphertextForRecipient"])
		}, "envelope"},
		"another data key": {func(c rig.KMSCall, a *rig.KMSAnswer) {
			a.Body["CiphertextForRecipient"] = envelope(t, c.Recipient, bytes.Repeat([]byte{7}, 32))
		}, "damaged"},
		"a short data key": {func(c rig.KMSCall, a *rig.KMSAnswer) {
			a.Body["CiphertextForRecipient"] = envelope(t, c.Recipient, []byte("short"))
		}, "damaged"},
		"no data key": {func(c rig.KMSCall, a *rig.KMSAnswer) {
			a.Body["CiphertextForRecipient"] = envelope(t, c.Recipient, nil)
		}, "damaged"},
		"a status of teapots":  {func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Status = http.StatusTeapot }, "418"},
		"access denied":        {refusal("AccessDeniedException"), "does not allow"},
		"a damaged ciphertext": {refusal("InvalidCiphertextException"), "damaged"},
		"a disabled key":       {refusal("DisabledException"), "disabled"},
		"expired credentials":  {refusal("ExpiredTokenException"), "expired"},
		"a terminal's bytes": {func(_ rig.KMSCall, a *rig.KMSAnswer) {
			a.Status = 400
			a.Body = map[string]any{"__type": "\x1b[2J\n", "message": strings.Repeat("\x1b[2J", 9999)}
		}, "KMS"},
	} {
		w.kms.Change(tc.change)
		e.refusesToBoot(v, name, tc.want)
	}
	w.kms.Change(nil)
	e.signsOn(v, d, 1)
}

func refusal(kind string) func(rig.KMSCall, *rig.KMSAnswer) {
	return func(_ rig.KMSCall, a *rig.KMSAnswer) {
		a.Status, a.Body = http.StatusBadRequest, map[string]any{"__type": "com.amazonaws.kms#" + kind, "message": "no"}
	}
}

// flip flips a bit of the encrypted key within an envelope in base64.
func flip(field any) string {
	b, err := base64.StdEncoding.DecodeString(field.(string))
	if err != nil {
		return ""
	}
	b[200] ^= 1
	return base64.StdEncoding.EncodeToString(b)
}

// KMS is in trouble, throttles, hangs up or hangs: the chain waits, and the honest
// host's next boot repairs it.
func TestKMSInTrouble(t *testing.T) {
	ofNitro(t)
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.halt()
	e = w.boot(w.honest(d))
	for name, change := range map[string]func(rig.KMSCall, *rig.KMSAnswer){
		"5xx":        func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Status, a.Body = 503, map[string]any{} },
		"throttling": refusal("ThrottlingException"),
		"hangs up":   func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Drop = true },
	} {
		before := len(w.kms.Calls())
		w.kms.Change(change)
		e.refusesToBoot(v, name, "KMS")
		if n := len(w.kms.Calls()) - before; n < 1 || n > 3 {
			t.Errorf("%s: asked %d times", name, n)
		}
	}
	// One failure is not worth a report.
	failed := false
	w.kms.Change(func(_ rig.KMSCall, a *rig.KMSAnswer) {
		if !failed {
			a.Status, failed = 500, true
		}
	})
	if s := e.boot(v); s.Problem != "" || !failed {
		t.Errorf("after one failure: %+v", s)
	}
	e.halt()

	// It hangs; the host that waits for it is killed, and the next one is served.
	e = w.boot(w.honest(d))
	asked := make(chan struct{}, 16)
	w.kms.Change(func(_ rig.KMSCall, a *rig.KMSAnswer) {
		a.Hang = true
		asked <- struct{}{}
	})
	status := make(chan hostlink.ChainStatus)
	go func() { status <- e.boot(v) }()
	<-asked
	w.kms.Change(func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Status = 400 })
	e.meet(w.honest(d))
	if s := <-status; s.Problem == "" {
		t.Error("booted by a KMS that hangs")
	}
	w.kms.Change(nil)
	e.signsOn(v, d, 1)
}

// Wrong clocks and credentials: KMS refuses, and the operator learns which it is.
func TestClockAndCredentials(t *testing.T) {
	ofNitro(t)
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.halt()
	e = w.boot(w.honest(d))
	for _, skew := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		w.kms.SetClock(func() time.Time { return time.Now().Add(skew) })
		e.refusesToBoot(v, "KMS's clock off by "+skew.String(), "clocks of KMS and of this enclave differ")
	}
	w.kms.SetClock(time.Now)

	good := credentials
	for name, bad := range map[string]hostlink.Credentials{
		"none":            {},
		"another secret":  {AccessKeyID: good.AccessKeyID, SecretAccessKey: secret.New("another-secret-access-key"), SessionToken: good.SessionToken},
		"no token":        {AccessKeyID: good.AccessKeyID, SecretAccessKey: good.SecretAccessKey},
		"an unknown user": {AccessKeyID: "ASIAOTHER", SecretAccessKey: good.SecretAccessKey, SessionToken: good.SessionToken},
		"header split":    {AccessKeyID: good.AccessKeyID, SecretAccessKey: good.SecretAccessKey, SessionToken: secret.New("x\r\nx-amz-target: TrentService.Encrypt")},
	} {
		req := bootRequest(v.chain, v.wrapped)
		req.Boot.Credentials = bad
		reply, err := e.ask(req)
		if err != nil || !strings.Contains(reply.Status.Chains[0].Problem, "credentials") {
			t.Errorf("%s: %+v, %v", name, reply.Status, err)
		}
		for _, text := range []string{bad.SecretAccessKey.Reveal(), bad.SessionToken.Reveal()} {
			if text != "" && strings.Contains(fmt.Sprintf("%+v", reply.Status), text) {
				t.Errorf("%s: the answer shows %s", name, text)
			}
		}
	}
	e.signsOn(v, d, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range []string{good.SecretAccessKey.Reveal(), good.SessionToken.Reveal(), "another-secret-access-key"} {
		if w.left([]byte(text)) {
			t.Error("the enclave gave credentials back")
		}
	}
}

// A wrapped key that is damaged, of another chain, of another public key, of another
// KMS key, or a consensus key and an identity in each other's place.
func TestWrongWrappedKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v, other := e.create(chainID), e.create("chain-2")
	again := e.create(chainID)
	reply, err := e.ask(hostlink.Request{Create: &hostlink.Create{KeyType: "ed25519", Credentials: credentials}})
	if err != nil {
		t.Fatal(err)
	}
	identity := reply.Created.Wrapped
	foreign := newWorld(t).foreignKey(chainID)
	d := newDisk(t, v)
	e.meet(w.honest(d))
	otherARN := bytes.Replace(v.wrapped, []byte(keyARN), []byte(keyARN[:len(keyARN)-1]+"6"), 1)
	if inSGX { // which of the CPU's keys it is sealed with
		otherARN = bytes.Replace(v.wrapped, []byte(policy.SealMRSIGNER), []byte("mrsigned"), 1)
	}
	for name, wrapped := range map[string][]byte{
		"another chain's":         other.wrapped,
		"an identity":             identity,
		"of another account":      foreign,
		"with another ARN":        otherARN,
		"cut off":                 v.wrapped[:len(v.wrapped)-1],
		"longer":                  append(bytes.Clone(v.wrapped), 0),
		"empty":                   {},
		"with another chain's id": bytes.Replace(other.wrapped, []byte("chain-2"), []byte(chainID), 1),
		"with another public key": bytes.Replace(v.wrapped, v.public.Bytes(), again.public.Bytes(), 1),
		"with another's end":      append(bytes.Clone(v.wrapped[:len(v.wrapped)-69]), again.wrapped[len(again.wrapped)-69:]...),
	} {
		if s := e.bootWith(v, wrapped); s.Problem == "" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	// One that opens, and has no state here.
	elsewhere := w.boot(w.honest(d))
	if s := elsewhere.bootWith(v, again.wrapped); !strings.Contains(s.Problem, "no such state") {
		t.Errorf("another key's: %+v", s)
	}
	elsewhere.halt()
	// As identity, and as chain "".
	req := bootRequest(v.chain, v.wrapped)
	req.Boot.Chains[0].Identity = other.wrapped
	if reply, err := e.ask(req); err != nil || reply.Status.Chains[0].Problem == "" {
		t.Errorf("a consensus key as identity: %+v, %v", reply.Status, err)
	}
	if reply, err := e.ask(bootRequest("", identity)); err == nil {
		t.Errorf("an identity as the key of chain \"\": %+v", reply.Status)
	}
	// Once open, a key stays what it is.
	e.signsOn(v, d, 1)
	if s := e.bootWith(v, again.wrapped); !strings.Contains(s.Problem, "another wrapped key") {
		t.Errorf("exchanged while it runs: %+v", s)
	}
	e.signsOn(v, d, 3)
}

// foreignKey wraps a key in another account's KMS, whose key has the same ARN, or seals it
// on another CPU.
func (w *world) foreignKey(chain string) []byte {
	if inSGX {
		return w.sealedElsewhere(chain)
	}
	e := w.boot(w.honest(nil))
	defer e.halt()
	return e.create(chain).wrapped
}

// Somebody between enclave and KMS: with the right name under another authority,
// under the right authority with another name, in plain text, or with garbage.
// Nothing of the request reaches him.
func TestManInTheMiddle(t *testing.T) {
	ofNitro(t)
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.halt()
	e = w.boot(w.honest(d))
	otherCA, err := rig.NewKMS(w.root, serverName, "eu-central-1")
	if err != nil {
		t.Fatal(err)
	}
	defer otherCA.Close()
	w.letIn(otherCA)
	var heard locked
	for name, tc := range map[string]struct {
		kms  func(net.Conn)
		want string
	}{
		"another authority": {func(c net.Conn) { relay(c, otherCA.Addr()) }, "not KMS by the name and roots"},
		"plain text": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
			io.Copy(&heard, c)
		}, "not KMS by the name and roots"},
		"an old TLS": {func(c net.Conn) {
			tls.Server(c, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}).Handshake()
		}, "KMS"},
		"garbage":  {func(c net.Conn) { io.WriteString(c, strings.Repeat("garbage", 1000)); io.Copy(&heard, c) }, "KMS"},
		"an alert": {func(c net.Conn) { c.Write([]byte{21, 3, 3, 0, 2, 2, 40}); io.Copy(&heard, c) }, "not KMS by the name and roots"},
		"nobody":   {func(c net.Conn) {}, "KMS"},
	} {
		h := w.honest(d)
		h.kms = tc.kms
		e.meet(h)
		e.refusesToBoot(v, name, tc.want)
	}
	if calls := otherCA.Calls(); len(calls) > 0 {
		t.Errorf("an impostor was asked: %+v", calls)
	}
	for _, secret := range []string{credentials.AccessKeyID, "TrentService", string(v.wrapped[:20])} {
		if bytes.Contains(heard.bytes(), []byte(secret)) {
			t.Errorf("somebody in the middle heard %q", secret)
		}
	}

	// The right authority, with another name: KMS as it is, and a policy that
	// expects another one.
	right := *w.policy
	wrong := right
	wrong.KMSServerName = "kms.eu-west-1.amazonaws.com"
	w.policy = &wrong
	other := w.boot(w.honest(d))
	other.refusesToBoot(v, "another name", "not KMS by the name and roots")
	other.halt()
	w.policy = &right

	// Bits flipped on the way: TLS notices.
	for _, at := range []int{10, 300, 600, 900, 1200} {
		h := w.honest(d)
		h.kms = func(c net.Conn) { relayFlipped(c, w.kms.Addr(), at) }
		e.meet(h)
		e.refusesToBoot(v, fmt.Sprintf("byte %d flipped", at), "KMS")
	}
	e.signsOn(v, d, 1)
}

// locked is a buffer for several writers.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// relayFlipped relays, and flips a bit of the byte at a position of the answer.
func relayFlipped(conn net.Conn, addr string, at int) {
	outside, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer outside.Close()
	go func() {
		io.Copy(outside, conn)
		outside.Close()
	}()
	b := make([]byte, 1)
	for i := 0; ; i++ {
		if _, err := outside.Read(b); err != nil {
			return
		}
		if i == at {
			b[0] ^= 1
		}
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

// Floods in HTTP, by somebody who has KMS's certificate: headers, lines and chunks
// without end cost a bounded answer, and no memory.
func TestHTTPFloods(t *testing.T) {
	ofNitro(t)
	t.Parallel()
	w := newWorld(t)
	cert, authority := certificate(t)
	w.policy.TLSRoots += authority
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	for name, answer := range map[string]string{
		"a line without end":   "HTTP/1.1 200 " + strings.Repeat("A", 1<<20),
		"headers without end":  "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 1<<18),
		"a body of gigabytes":  "HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + strings.Repeat("A", 1<<20),
		"chunks without end":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nA\r\n", 1<<18),
		"a chunk of gigabytes": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n" + strings.Repeat("A", 1<<20),
		"both lengths":         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
		"continue forever":     strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1<<12),
	} {
		h := w.honest(d)
		asked := make(chan struct{}, 1<<10)
		h.kms = func(outside net.Conn) {
			conn := tls.Server(outside, &tls.Config{Certificates: []tls.Certificate{cert}})
			req, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			asked <- struct{}{}
			io.WriteString(conn, answer)
		}
		e.meet(h)
		e.refusesToBoot(v, name, "malformed")
		if len(asked) == 0 {
			t.Errorf("%s: nobody asked", name)
		}
	}
	e.signsOn(v, d, 1)
}

// certificate returns one for KMS that is its own authority, also as PEM.
func certificate(t *testing.T) (cert tls.Certificate, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{serverName},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(text)
}
