package yubihsm_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"privyseal/yubihsm"
)

// Sign a message with the Ed25519 key 1 of the device behind a connector on this machine.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()

	device, err := yubihsm.Open(yubihsm.DefaultConnector)
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	key := yubihsm.DeriveKey([]byte(os.Getenv("YUBIHSM_PASSWORD")))
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
	fmt.Printf("%x\n", signature)
}

// A Filter says what is listed.
func ExampleSession_ListObjects() {
	var session *yubihsm.Session // as Authenticate returned it
	entries, err := session.ListObjects(context.Background(), yubihsm.Filter{
		Type: yubihsm.TypeAsymmetricKey, Domains: yubihsm.Domain(1), Algorithm: yubihsm.Ed25519,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range entries {
		fmt.Printf("%v 0x%04x\n", e.Type, e.ID)
	}
}
