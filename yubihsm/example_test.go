package yubihsm_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"time"

	"privyseal/yubihsm"
)

// Sign a message with the Ed25519 key 1 of a device. The address is that of a connector, as
// [yubihsm.DefaultConnector] is, or of a device on the USB, as in "usb://0123456789".
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()

	device, err := yubihsm.Open(address)
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	key := yubihsm.DeriveKey([]byte(password))
	defer key.Wipe()
	session, err := yubihsm.Authenticate(ctx, device, 4, key)
	if err != nil {
		log.Fatal(err) // errors.Is(err, yubihsm.ErrWrongKey): the password
	}
	defer session.Close(ctx)

	public, err := session.PublicKey(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	message := []byte("a message")
	signature, err := session.SignEdDSA(ctx, 1, message)
	var refused *yubihsm.DeviceError
	switch {
	case errors.As(err, &refused) && refused.Code == yubihsm.LogFull:
		log.Fatal("read the audit log first")
	case err != nil:
		log.Fatal(err)
	case public.Algorithm != yubihsm.Ed25519 || !ed25519.Verify(public.Bytes, message, signature):
		log.Fatal("the device made a wrong signature")
	}
	fmt.Println(len(signature), "bytes")
	// Output: 64 bytes
}

// A session that is over is replaced by another one. Whether the command before was carried
// out is not known: a signature can be made again, but look for an object before you make it
// again.
func ExampleSessionError() {
	ctx := context.Background()
	session, authenticate := begin()
	restart() // the device was unplugged

	err := session.Echo(ctx, []byte("hello"))
	if _, over := errors.AsType[*yubihsm.SessionError](err); over {
		session = authenticate()
		err = session.Echo(ctx, []byte("hello"))
	}
	fmt.Println(err)
	// Output: <nil>
}

// A Filter says what is listed.
func ExampleSession_ListObjects() {
	ctx := context.Background()
	session, _ := begin()

	entries, err := session.ListObjects(ctx, yubihsm.Filter{
		Type: yubihsm.TypeAsymmetricKey, Domains: yubihsm.Domain(1), Algorithm: yubihsm.Ed25519,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range entries {
		fmt.Printf("%v 0x%04x\n", e.Type, e.ID)
	}
	// Output: asymmetric-key 0x0001
}

// A new key of secp256k1 that cannot leave the device signs a digest.
func ExampleSession_GenerateAsymmetricKey() {
	ctx := context.Background()
	session, _ := begin()

	id, err := session.GenerateAsymmetricKey(ctx, yubihsm.Object{
		Label: "account", Domains: yubihsm.Domain(1), Capabilities: yubihsm.SignECDSA, Algorithm: yubihsm.K256,
	}) // without an ID, the device chooses one
	if err != nil {
		log.Fatal(err)
	}
	info, err := session.ObjectInfo(ctx, yubihsm.TypeAsymmetricKey, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Label, info.Algorithm, info.Capabilities, info.Origin == yubihsm.Generated)

	digest := sha256.Sum256([]byte("a message"))
	signature, err := session.SignECDSA(ctx, id, digest[:])
	fmt.Println(len(signature) > 64, err) // a sequence of r and s, in DER
	// Output:
	// account eck256 sign-ecdsa true
	// true <nil>
}

// A key goes from one device to another that has the same wrap key.
func ExampleSession_ExportWrapped() {
	ctx := context.Background()
	from, _ := begin()
	to, _ := begin()

	secret := make([]byte, 32)
	rand.Read(secret)
	for _, session := range []*yubihsm.Session{from, to} {
		if _, err := session.PutWrapKey(ctx, yubihsm.Object{
			ID: 1, Label: "backups", Domains: yubihsm.Domain(1), Algorithm: yubihsm.AES256CCMWrap,
			Capabilities: yubihsm.ExportWrapped | yubihsm.ImportWrapped,
			Delegated:    yubihsm.SignEdDSA | yubihsm.ExportableUnderWrap, // what its objects may be able to do
		}, secret); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := from.GenerateAsymmetricKey(ctx, yubihsm.Object{
		ID: 3, Domains: yubihsm.Domain(1), Algorithm: yubihsm.Ed25519,
		Capabilities: yubihsm.SignEdDSA | yubihsm.ExportableUnderWrap,
	}); err != nil {
		log.Fatal(err)
	}
	blob, err := from.ExportWrapped(ctx, 1, yubihsm.TypeAsymmetricKey, 3)
	if err != nil {
		log.Fatal(err)
	}
	t, id, err := to.ImportWrapped(ctx, 1, blob)
	fmt.Printf("%v 0x%04x %v\n", t, id, err)
	// Output: asymmetric-key 0x0003 <nil>
}

// The device certifies a key of its own. Verify that the certificate of the device, opaque
// object 0, comes from Yubico before you believe it.
func ExampleSession_SignAttestationCertificate() {
	ctx := context.Background()
	session, _ := begin()

	attestation, err := session.SignAttestationCertificate(ctx, 1, 0)
	if err != nil {
		log.Fatal(err)
	}
	ofDevice, err := session.Opaque(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	key, err := x509.ParseCertificate(attestation)
	if err != nil {
		log.Fatal(err)
	}
	device, err := x509.ParseCertificate(ofDevice)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.PublicKeyAlgorithm, device.CheckSignature(key.SignatureAlgorithm, key.RawTBSCertificate, key.Signature))
	// Output: Ed25519 <nil>
}

// The log is read, checked, and only then forgotten by the device.
func ExampleSession_LogEntries() {
	ctx := context.Background()
	session, _ := begin()
	if err := session.SetCommandAudit(ctx, map[yubihsm.Command]yubihsm.Audit{yubihsm.CommandSignEdDSA: yubihsm.AuditOn}); err != nil {
		log.Fatal(err)
	}
	if _, err := session.SignEdDSA(ctx, 1, []byte("a message")); err != nil {
		log.Fatal(err)
	}

	l, err := session.LogEntries(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for i, e := range l.Entries {
		if i > 0 && !e.Follows(l.Entries[i-1]) {
			log.Fatal("entries are missing, or were changed")
		}
		if e.Command == yubihsm.CommandSignEdDSA {
			fmt.Printf("key 0x%04x, %d bytes with the id, authentication key 0x%04x\n", e.Target, e.Length, e.Session)
		}
	}
	// Write them down durably here.
	if err := session.SetLogIndex(ctx, l.Entries[len(l.Entries)-1].Number); err != nil {
		log.Fatal(err)
	}
	// Output: key 0x0001, 11 bytes with the id, authentication key 0x0004
}
