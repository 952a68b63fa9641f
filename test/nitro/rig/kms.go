package rig

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"privyseal/internal/key/nitrokms/kmstest"
	"privyseal/internal/secret"
)

// KMS plays AWS KMS on 127.0.0.1: TLS, signed requests, key policies with the
// conditions on attestation and encryption context, and answers that are encrypted
// to the key in the attestation document. It knows GenerateDataKey, Decrypt,
// GenerateRandom and, of those that a policy has to deny, Encrypt.
//
// API: "AWS KMS API Reference"; "Cryptographic attestation support in AWS KMS".
type KMS struct {
	// Region is that of its keys and of the requests' signatures.
	Region string

	root     *Root
	server   *http.Server
	listener net.Listener
	ca       []byte // PEM

	mu     sync.Mutex
	keys   map[string]*kmsKey // by ARN
	users  map[string]user    // by access key id
	calls  []KMSCall
	change func(KMSCall, *KMSAnswer)
	now    func() time.Time
}

type kmsKey struct {
	aead   cipher.AEAD
	policy *keyPolicy
}

type user struct {
	secret.AWS
	principal string
}

// KMSCall is a request that arrived, and what came of it.
type KMSCall struct {
	Action    string // GenerateDataKey, …
	Principal string // ARN; empty if the signature was wrong
	Key       string // ARN; empty if none was found
	Context   map[string]string
	Attested  bool   // with a document that is good
	PCR0      []byte // of the document
	Recipient []byte // the document's public key, to which the answer is sealed
	Refused   string // the reason; empty if it was granted
}

// KMSAnswer is an answer before it is sent.
type KMSAnswer struct {
	Status int
	// Body is what is sent. Fields of an answer that was granted: KeyId,
	// CiphertextBlob, CiphertextForRecipient, Plaintext.
	Body map[string]any
	// Raw, if set, is sent instead of Body.
	Raw []byte
	// Wire, if set, is all that is sent, as it is: one of `privyseal nitro capture`.
	Wire []byte
	// Hang keeps the request without an answer until its client goes.
	Hang bool
	// Drop closes the connection without an answer.
	Drop bool
}

// NewKMS starts a KMS that trusts documents below root, and whose certificate is
// for serverName. Close ends it.
func NewKMS(root *Root, serverName, region string) (*KMS, error) {
	cert, ca, err := tlsIdentity(serverName)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &KMS{
		Region: region, root: root, listener: l, ca: ca,
		keys: map[string]*kmsKey{}, users: map[string]user{}, now: time.Now,
	}
	k.server = &http.Server{
		Handler:   http.HandlerFunc(k.serve),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	go k.server.ServeTLS(l, "", "")
	return k, nil
}

// tlsIdentity makes a certificate for a name, and the authority that signed it.
func tlsIdentity(name string) (*tls.Certificate, []byte, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	caTemplate := authority("KMS test authority", now.Add(-time.Hour), now.AddDate(1, 0, 0))
	caTemplate.SignatureAlgorithm = x509.ECDSAWithSHA256
	ca, err := certify(caTemplate, caTemplate, caKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	template := certificate(name, now.Add(-time.Hour), now.AddDate(1, 0, 0))
	template.SignatureAlgorithm = x509.ECDSAWithSHA256
	template.DNSNames = []string{name}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf, err := certify(template, ca, key, caKey)
	if err != nil {
		return nil, nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key}, text, nil
}

// Close ends KMS and all connections to it.
func (k *KMS) Close() { k.server.Close() }

// Addr returns "127.0.0.1:PORT".
func (k *KMS) Addr() string { return k.listener.Addr().String() }

// CA returns the certificate, PEM, that TLS to this KMS has to be pinned to.
func (k *KMS) CA() []byte { return k.ca }

// AddKey makes a key with its policy (JSON), or gives a key another policy.
func (k *KMS) AddKey(arn string, policy []byte) error {
	p, err := parsePolicy(policy)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := k.keys[arn]; old != nil {
		old.policy = p
		return nil
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	k.keys[arn] = &kmsKey{aead, p}
	return nil
}

// AddPrincipal lets those who hold the credentials call as principal, the ARN of a
// role or user.
func (k *KMS) AddPrincipal(c secret.AWS, principal string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.users[c.AccessKeyID] = user{c, principal}
}

// Change has every answer pass through change before it is sent; nil ends that.
func (k *KMS) Change(change func(KMSCall, *KMSAnswer)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.change = change
}

// SetClock replaces time.Now.
func (k *KMS) SetClock(now func() time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = now
}

// Calls returns all calls so far, in order.
func (k *KMS) Calls() []KMSCall {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.calls)
}

// Encrypt returns a CiphertextBlob, as `aws kms encrypt` does for somebody whom
// the policy does not stop.
func (k *KMS) Encrypt(arn string, context map[string]string, plaintext []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.keys[arn]
	if key == nil {
		return nil, fmt.Errorf("there is no key %s", arn)
	}
	return key.seal(arn, context, plaintext), nil
}

// seal puts the key's ARN before the ciphertext, so that Decrypt finds the key.
func (key *kmsKey) seal(arn string, context map[string]string, plaintext []byte) []byte {
	nonce := make([]byte, key.aead.NonceSize())
	rand.Read(nonce)
	blob := append([]byte{byte(len(arn))}, arn...)
	blob = append(blob, nonce...)
	return key.aead.Seal(blob, nonce, plaintext, contextBytes(context))
}

func (k *KMS) open(blob []byte, context map[string]string) (arn string, plaintext []byte, err error) {
	invalid := errors.New("InvalidCiphertextException: ")
	if len(blob) < 1 || len(blob) < 1+int(blob[0]) {
		return "", nil, invalid
	}
	arn, blob = string(blob[1:1+blob[0]]), blob[1+blob[0]:]
	key := k.keys[arn]
	if key == nil || len(blob) < key.aead.NonceSize() {
		return "", nil, invalid
	}
	n := key.aead.NonceSize()
	plaintext, err = key.aead.Open(nil, blob[:n], blob[n:], contextBytes(context))
	if err != nil {
		return arn, nil, invalid
	}
	return arn, plaintext, nil
}

// contextBytes encodes an encryption context, in order.
func contextBytes(context map[string]string) []byte {
	b, err := json.Marshal(context) // sorts
	if err != nil || len(context) == 0 {
		return nil
	}
	return b
}

// kmsRequest has the fields of all actions.
type kmsRequest struct {
	KeyId               string // as AWS spells it
	KeySpec             string
	NumberOfBytes       int
	CiphertextBlob      []byte
	Plaintext           []byte
	EncryptionAlgorithm string
	EncryptionContext   map[string]string
	Recipient           *struct {
		AttestationDocument    []byte
		KeyEncryptionAlgorithm string
	}
}

func (k *KMS) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	k.mu.Lock()
	c, fields, err := k.handle(r, body)
	answer := &KMSAnswer{Status: http.StatusOK, Body: fields}
	if err != nil {
		c.Refused = err.Error()
		kind, message, _ := strings.Cut(c.Refused, ": ")
		answer.Status, answer.Body = http.StatusBadRequest, map[string]any{"__type": kind, "message": message}
	}
	k.calls = append(k.calls, c)
	change := k.change
	k.mu.Unlock()
	if change != nil {
		change(c, answer)
	}
	answer.send(w, r)
}

func (a *KMSAnswer) send(w http.ResponseWriter, r *http.Request) {
	switch {
	case a.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case a.Drop:
		panic(http.ErrAbortHandler)
	case a.Wire != nil:
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err) // the server speaks HTTP/1.1
		}
		defer conn.Close()
		conn.Write(a.Wire)
		return
	}
	body := a.Raw
	if body == nil {
		var err error
		if body, err = json.Marshal(a.Body); err != nil {
			panic(err) // our own types
		}
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", "00000000-0000-4000-8000-000000000000")
	w.WriteHeader(a.Status)
	w.Write(body)
}

// handle returns the fields of the answer, or an error that begins with its type.
func (k *KMS) handle(r *http.Request, body []byte) (c KMSCall, fields map[string]any, err error) {
	action, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !ok || r.Method != http.MethodPost || r.URL.Path != "/" {
		return c, nil, errors.New("UnknownOperationException: ")
	}
	c.Action = action
	if kind := r.Header.Get("Content-Type"); kind != "application/x-amz-json-1.1" {
		return c, nil, fmt.Errorf("UnknownOperationException: Content-Type %q", kind)
	}
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	caller, known := k.users[id]
	if !known {
		return c, nil, errors.New("UnrecognizedClientException: The security token included in the request is invalid.")
	}
	if err := verifySignature(r, body, caller.AWS, k.Region, k.now()); err != nil {
		return c, nil, err
	}
	c.Principal = caller.principal
	var request kmsRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return c, nil, fmt.Errorf("SerializationException: %w", err)
	}
	c.Context = request.EncryptionContext
	var doc *attested
	if request.Recipient != nil {
		if request.Recipient.KeyEncryptionAlgorithm != "RSAES_OAEP_SHA_256" {
			return c, nil, errors.New("ValidationException: KeyEncryptionAlgorithm")
		}
		if doc, err = verifyDocument(request.Recipient.AttestationDocument, k.root, k.now()); err != nil {
			return c, nil, fmt.Errorf("ValidationException: Attestation document: %w", err)
		}
		c.Attested, c.PCR0, c.Recipient = true, doc.pcrs[0], doc.publicKey
	}
	if a := request.EncryptionAlgorithm; a != "" && a != "SYMMETRIC_DEFAULT" {
		return c, nil, fmt.Errorf("ValidationException: EncryptionAlgorithm %q, and the key is symmetric", a)
	}
	fields, err = k.perform(&c, &request, doc)
	return c, fields, err
}

func (k *KMS) perform(c *KMSCall, request *kmsRequest, doc *attested) (map[string]any, error) {
	var plaintext []byte
	switch c.Action {
	case "GenerateDataKey", "Encrypt":
		c.Key = request.KeyId
		plaintext = request.Plaintext
	case "Decrypt":
		arn, opened, err := k.open(request.CiphertextBlob, request.EncryptionContext)
		c.Key = arn
		if arn == "" {
			return nil, err
		}
		if request.KeyId != "" && request.KeyId != arn {
			return nil, errors.New("IncorrectKeyException: The key ID in the request does not identify a CMK that can perform this operation.")
		}
		// The policy is asked before the ciphertext: who may not, learns nothing.
		if err := k.allowed(c, doc); err != nil {
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		return answerFields(arn, nil, opened, doc)
	case "GenerateRandom":
		plaintext = make([]byte, request.NumberOfBytes)
		rand.Read(plaintext)
		return answerFields("", nil, plaintext, doc)
	default:
		return nil, errors.New("UnknownOperationException: ")
	}
	key := k.keys[c.Key]
	if key == nil {
		return nil, fmt.Errorf("NotFoundException: Key '%s' does not exist", c.Key)
	}
	if err := k.allowed(c, doc); err != nil {
		return nil, err
	}
	if c.Action == "Encrypt" {
		return map[string]any{"KeyId": c.Key, "CiphertextBlob": key.seal(c.Key, request.EncryptionContext, plaintext), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, nil
	}
	size := map[string]int{"AES_256": 32, "AES_128": 16, "": request.NumberOfBytes}[request.KeySpec]
	if size < 1 || size > 1024 {
		return nil, errors.New("ValidationException: Please specify either number of bytes or key spec.")
	}
	plaintext = make([]byte, size)
	rand.Read(plaintext)
	return answerFields(c.Key, key.seal(c.Key, request.EncryptionContext, plaintext), plaintext, doc)
}

// answerFields hides the plaintext in an envelope if there is a recipient.
func answerFields(arn string, blob, plaintext []byte, doc *attested) (map[string]any, error) {
	fields := map[string]any{}
	if arn != "" {
		fields["KeyId"] = arn
		fields["KeyMaterialId"] = strings.Repeat("0", 64)
	}
	if blob != nil {
		fields["CiphertextBlob"] = base64.StdEncoding.EncodeToString(blob)
	} else if arn != "" {
		fields["EncryptionAlgorithm"] = "SYMMETRIC_DEFAULT"
	}
	if doc == nil {
		fields["Plaintext"] = base64.StdEncoding.EncodeToString(plaintext)
		return fields, nil
	}
	sealed, err := kmstest.Seal(doc.publicKey, plaintext)
	if err != nil {
		return nil, fmt.Errorf("ValidationException: Attestation document: %w", err)
	}
	fields["CiphertextForRecipient"] = base64.StdEncoding.EncodeToString(sealed)
	return fields, nil
}

// allowed asks the key's policy.
func (k *KMS) allowed(c *KMSCall, doc *attested) error {
	context := map[string][]string{"aws:principalarn": {c.Principal}}
	if doc != nil {
		for i, pcr := range doc.pcrs {
			context[fmt.Sprintf("kms:recipientattestation:pcr%d", i)] = []string{hex.EncodeToString(pcr)}
		}
		context["kms:recipientattestation:imagesha384"] = []string{hex.EncodeToString(doc.pcrs[0])}
	}
	for name, value := range c.Context {
		context["kms:encryptioncontext:"+strings.ToLower(name)] = []string{value}
	}
	if len(c.Context) > 0 {
		context["kms:encryptioncontextkeys"] = slices.Sorted(maps.Keys(c.Context))
	}
	err := k.keys[c.Key].policy.allows(call{action: "kms:" + c.Action, principal: c.Principal, key: c.Key, context: context})
	if err != nil {
		return fmt.Errorf("AccessDeniedException: User: %s is not authorized to perform: kms:%s on resource: %s %w", c.Principal, c.Action, c.Key, err)
	}
	return nil
}
