package yubihsm_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/yubihsm"
)

// dial opens a session with authentication key 1 of a device as it leaves the factory.
func dial(t *testing.T, d *yubihsmtest.Device) *yubihsm.Session {
	t.Helper()
	return open(t, d, 1, yubihsm.DeriveKey([]byte("password")))
}

func open(t *testing.T, d *yubihsmtest.Device, id uint16, key yubihsm.AuthenticationKey) *yubihsm.Session {
	t.Helper()
	transport, err := yubihsm.Open(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { transport.Close() })
	s, err := yubihsm.Authenticate(t.Context(), transport, id, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// must fails the test if something went wrong.
func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refusal checks that the device refuses with a code, and the session goes on.
func refusal(t *testing.T, s *yubihsm.Session, err error, code yubihsm.ErrorCode) {
	t.Helper()
	var refused *yubihsm.DeviceError
	var over *yubihsm.SessionError
	if !errors.As(err, &refused) || refused.Code != code || errors.As(err, &over) {
		t.Errorf("in place of %v: %v", code, err)
	}
	if err := s.Echo(t.Context(), []byte("on")); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
}

var firmwares = [][3]byte{{2, 2, 0}, {2, 4, 0}}

func TestDevice(t *testing.T) {
	for _, firmware := range firmwares {
		d := yubihsmtest.New(t, yubihsmtest.Options{Firmware: firmware, Serial: 7550054})
		connector, err := yubihsm.NewConnector(d.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer connector.Close()
		if status, err := connector.Status(t.Context()); err != nil || !status.Device {
			t.Errorf("%+v, %v", status, err)
		}
		outside := must[yubihsm.DeviceInfo](t)(yubihsm.ReadDeviceInfo(t.Context(), connector))
		s := dial(t, d)
		inside := must[yubihsm.DeviceInfo](t)(s.DeviceInfo(t.Context()))
		if outside.Serial != 7550054 || inside.Serial != 7550054 || inside.Version != firmware || inside.LogSize != yubihsmtest.LogSize ||
			!slices.Contains(inside.Algorithms, yubihsm.Ed25519) {
			t.Errorf("%+v\n%+v", outside, inside)
		}
		storage := must[yubihsm.StorageInfo](t)(s.StorageInfo(t.Context()))
		if storage.TotalRecords != 256 || storage.FreeRecords >= 256 || storage.PageSize == 0 || storage.FreePages > storage.TotalPages {
			t.Errorf("%+v", storage)
		}
		a, b := must[[]byte](t)(s.PseudoRandom(t.Context(), 1024)), must[[]byte](t)(s.PseudoRandom(t.Context(), 1))
		if len(a) != 1024 || len(b) != 1 || bytes.Count(a, []byte{0}) > 50 {
			t.Errorf("%d and %d random bytes", len(a), len(b))
		}
		for _, n := range []int{0, -1, 1025} {
			if _, err := s.PseudoRandom(t.Context(), n); err == nil {
				t.Errorf("%d random bytes", n)
			}
		}
		if err := s.Blink(t.Context(), 1); err != nil {
			t.Error(err)
		}
		if err := s.Close(t.Context()); err != nil || d.Sessions() != 0 {
			t.Errorf("%v, %d sessions are left", err, d.Sessions())
		}
		if err := s.Echo(t.Context(), nil); !errors.Is(err, yubihsm.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// TestPadding sends messages of each length around the blocks of the cipher.
func TestPadding(t *testing.T) {
	s := dial(t, yubihsmtest.New(t, yubihsmtest.Options{}))
	must[yubihsm.DeviceInfo](t)(s.DeviceInfo(t.Context()))
	for n := range 100 {
		if err := s.Echo(t.Context(), bytes.Repeat([]byte{0x80}, n)); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err := s.Echo(t.Context(), make([]byte, n)); err != nil {
			t.Fatalf("%d zeros: %v", n, err)
		}
	}
	if err := s.Echo(t.Context(), make([]byte, 3116)); err != nil {
		t.Error(err)
	}
}

func TestAuthenticationFails(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	connector, err := yubihsm.NewConnector(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer connector.Close()
	if _, err := yubihsm.Authenticate(t.Context(), connector, 1, yubihsm.DeriveKey([]byte("Password"))); !errors.Is(err, yubihsm.ErrWrongKey) {
		t.Errorf("a wrong password: %v", err)
	}
	var refused *yubihsm.DeviceError
	if _, err := yubihsm.Authenticate(t.Context(), connector, 2, yubihsm.DeriveKey([]byte("password"))); !errors.As(err, &refused) || refused.Code != yubihsm.ObjectNotFound {
		t.Errorf("no such key: %v", err)
	}
	d.Advance(yubihsmtest.IdleTime + time.Second)
	for range yubihsmtest.MaxSessions {
		dial(t, d)
	}
	if _, err := yubihsm.Authenticate(t.Context(), connector, 1, yubihsm.DeriveKey([]byte("password"))); !errors.As(err, &refused) || refused.Code != yubihsm.SessionsFull {
		t.Errorf("the 17th session: %v", err)
	}
	d.StopConnector()
	var unreachable *yubihsm.ConnectorError
	if _, err := yubihsm.Authenticate(t.Context(), connector, 1, yubihsm.DeriveKey([]byte("password"))); !errors.As(err, &unreachable) || unreachable.Cause == nil {
		t.Errorf("no connector: %v", err)
	}
	d.StartConnector(t)
	d.Unplug()
	if _, err := yubihsm.Authenticate(t.Context(), connector, 1, yubihsm.DeriveKey([]byte("password"))); !errors.As(err, &unreachable) || unreachable.Status != 500 {
		t.Errorf("no device: %v", err)
	}
	if status, err := connector.Status(t.Context()); err != nil || status.Device {
		t.Errorf("no device: %+v, %v", status, err)
	}
}

// TestSessionDies is what ends sessions in the field.
func TestSessionDies(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*yubihsmtest.Device)
		code yubihsm.ErrorCode // 0: the device says nothing
	}{
		"idle":            {func(d *yubihsmtest.Device) { d.Advance(yubihsmtest.IdleTime + time.Second) }, yubihsm.InvalidSession},
		"device restarts": {func(d *yubihsmtest.Device) { d.Unplug(); d.Plug() }, yubihsm.InvalidSession},
		"refused outside": {func(d *yubihsmtest.Device) { d.Next(yubihsmtest.Any, yubihsmtest.FailsPlainly(yubihsmtest.LogFull)) }, yubihsm.LogFull},
		"bad MAC":         {func(d *yubihsmtest.Device) { d.Next(yubihsmtest.Any, yubihsmtest.BadMAC()) }, 0},
		"answer lost":     {func(d *yubihsmtest.Device) { d.Next(yubihsmtest.Any, yubihsmtest.DropAnswer()) }, 0},
		"unplugged":       {func(d *yubihsmtest.Device) { d.Next(yubihsmtest.Any, yubihsmtest.UnpluggedWithin()) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := yubihsmtest.New(t, yubihsmtest.Options{})
			s := dial(t, d)
			c.harm(d)
			err := s.Echo(t.Context(), []byte("x"))
			var over *yubihsm.SessionError
			var refused *yubihsm.DeviceError
			if !errors.As(err, &over) || errors.As(err, &refused) != (c.code != 0) || c.code != 0 && refused.Code != c.code {
				t.Fatalf("%v", err)
			}
			before := d.Count(yubihsmtest.Any)
			if err := s.Close(t.Context()); err != nil || d.Count(yubihsmtest.Any) != before {
				t.Errorf("%v, and %d messages after %d", err, d.Count(yubihsmtest.Any), before)
			}
		})
	}
}

// TestDeadline: a device that hangs holds its caller no longer than he says.
func TestDeadline(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	s := dial(t, d)
	d.Next(yubihsmtest.Any, d.Hang())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var over *yubihsm.SessionError
	if err := s.Echo(ctx, nil); !errors.As(err, &over) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	d.Heal()
}

func TestConcurrentUse(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	s := dial(t, d)
	done := make(chan error)
	for i := range 16 {
		go func() { done <- s.Echo(t.Context(), bytes.Repeat([]byte{byte(i)}, i)) }()
	}
	for range 16 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestEd25519(t *testing.T) {
	for _, firmware := range firmwares {
		d := yubihsmtest.New(t, yubihsmtest.Options{Firmware: firmware})
		s := dial(t, d)
		info := must[yubihsm.DeviceInfo](t)(s.DeviceInfo(t.Context()))
		seed := bytes.Repeat([]byte{9}, 32)
		private := ed25519.NewKeyFromSeed(seed)
		id := must[uint16](t)(s.PutAsymmetricKey(t.Context(), yubihsm.Object{ID: 5, Label: "validator", Domains: yubihsm.Domain(1),
			Capabilities: yubihsm.SignEdDSA, Algorithm: yubihsm.Ed25519}, seed))
		public := must[yubihsm.PublicKey](t)(s.PublicKey(t.Context(), id))
		if id != 5 || public.Algorithm != yubihsm.Ed25519 || !bytes.Equal(public.Bytes, private.Public().(ed25519.PublicKey)) {
			t.Fatalf("key %d, %+v", id, public)
		}
		longest := map[int]int{2048: 2026, 3136: 3114}[info.MessageBuffer()]
		for _, n := range []int{0, 1, 110, longest} {
			message := bytes.Repeat([]byte{'m'}, n)
			if got := must[[]byte](t)(s.SignEdDSA(t.Context(), id, message)); !bytes.Equal(got, ed25519.Sign(private, message)) {
				t.Errorf("%d bytes are signed with %x", n, got)
			}
		}
		var tooLong *yubihsm.TooLongError
		if _, err := s.SignEdDSA(t.Context(), id, make([]byte, longest+1)); !errors.As(err, &tooLong) {
			t.Errorf("%d bytes: %v", longest+1, err)
		}
		_, err := s.SignECDSA(t.Context(), id, make([]byte, 32))
		refusal(t, s, err, yubihsm.InsufficientPermissions)
		_, err = s.SignEdDSA(t.Context(), 6, nil)
		refusal(t, s, err, yubihsm.ObjectNotFound)
		_, err = s.PutAsymmetricKey(t.Context(), yubihsm.Object{ID: 5, Domains: 1, Algorithm: yubihsm.Ed25519}, seed)
		refusal(t, s, err, yubihsm.ObjectExists)
	}
}

func TestECDSA(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	s := dial(t, d)
	o := yubihsm.Object{Domains: yubihsm.AllDomains, Capabilities: yubihsm.SignECDSA, Algorithm: yubihsm.P256}
	id := must[uint16](t)(s.GenerateAsymmetricKey(t.Context(), o))
	public := must[yubihsm.PublicKey](t)(s.PublicKey(t.Context(), id))
	key := must[*ecdsa.PublicKey](t)(ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, public.Bytes...)))
	digest := sha256.Sum256([]byte("a message"))
	if signature := must[[]byte](t)(s.SignECDSA(t.Context(), id, digest[:])); id == 0 || !ecdsa.VerifyASN1(key, digest[:], signature) {
		t.Errorf("key 0x%04x made %x", id, signature)
	}
	o.Algorithm = yubihsm.K256
	id = must[uint16](t)(s.GenerateAsymmetricKey(t.Context(), o))
	if public := must[yubihsm.PublicKey](t)(s.PublicKey(t.Context(), id)); public.Algorithm != yubihsm.K256 || len(public.Bytes) != 64 {
		t.Errorf("%+v", public)
	}
	must[[]byte](t)(s.SignECDSA(t.Context(), id, digest[:]))
}

func TestObjects(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	s := dial(t, d)
	o := yubihsm.Object{ID: 0xfffe, Label: "a report of forty bytes, to the last ...", Domains: yubihsm.Domain(1) | yubihsm.Domain(16), Capabilities: yubihsm.ExportableUnderWrap, Algorithm: yubihsm.OpaqueData}
	if id := must[uint16](t)(s.PutOpaque(t.Context(), o, []byte(`{"a":1}`))); id != 0xfffe {
		t.Errorf("it is 0x%04x", id)
	}
	if data := must[[]byte](t)(s.Opaque(t.Context(), 0xfffe)); string(data) != `{"a":1}` {
		t.Errorf("%q", data)
	}
	info := must[yubihsm.ObjectInfo](t)(s.ObjectInfo(t.Context(), yubihsm.TypeOpaque, 0xfffe))
	if info.Object != o || info.Type != yubihsm.TypeOpaque || info.Length != 7 || info.Origin != yubihsm.Imported {
		t.Errorf("%+v", info)
	}
	key := must[uint16](t)(s.GenerateAsymmetricKey(t.Context(), yubihsm.Object{ID: 7, Label: "key", Domains: yubihsm.Domain(2), Capabilities: yubihsm.SignEdDSA, Algorithm: yubihsm.Ed25519}))
	if info := must[yubihsm.ObjectInfo](t)(s.ObjectInfo(t.Context(), yubihsm.TypeAsymmetricKey, key)); info.Origin != yubihsm.Generated || info.Label != "key" {
		t.Errorf("%+v", info)
	}
	filters := map[string]yubihsm.Filter{
		"id": {ID: 7}, "type": {Type: yubihsm.TypeAsymmetricKey}, "domains": {Domains: yubihsm.Domain(2), Type: yubihsm.TypeAsymmetricKey},
		"capabilities": {Capabilities: yubihsm.SignEdDSA, Algorithm: yubihsm.Ed25519}, "algorithm": {Algorithm: yubihsm.Ed25519}, "label": {Label: "key"},
	}
	for name, f := range filters {
		if list := must[[]yubihsm.Entry](t)(s.ListObjects(t.Context(), f)); len(list) != 1 || list[0].ID != 7 || list[0].Type != yubihsm.TypeAsymmetricKey {
			t.Errorf("by %s: %+v", name, list)
		}
	}
	if list := must[[]yubihsm.Entry](t)(s.ListObjects(t.Context(), yubihsm.Filter{})); len(list) < 3 {
		t.Errorf("all: %+v", list)
	}
	if list := must[[]yubihsm.Entry](t)(s.ListObjects(t.Context(), yubihsm.Filter{Label: "ke"})); len(list) != 0 {
		t.Errorf("none: %+v", list)
	}
	if err := s.DeleteObject(t.Context(), yubihsm.TypeAsymmetricKey, key); err != nil {
		t.Error(err)
	}
	refusal(t, s, s.DeleteObject(t.Context(), yubihsm.TypeAsymmetricKey, key), yubihsm.ObjectNotFound)
	_, err := s.ObjectInfo(t.Context(), yubihsm.TypeAsymmetricKey, key)
	refusal(t, s, err, yubihsm.ObjectNotFound)
}

func TestObjectsThatAreNotSent(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	s := dial(t, d)
	before := d.Count(yubihsmtest.Any)
	long := string(make([]byte, 41))
	for name, o := range map[string]yubihsm.Object{
		"no domain": {Algorithm: yubihsm.OpaqueData}, "a long label": {Label: "0123456789012345678901234567890123456789x", Domains: 1, Algorithm: yubihsm.OpaqueData},
		"a zero in the label": {Label: "a\x00b", Domains: 1}, "delegated": {Domains: 1, Delegated: 1, Algorithm: yubihsm.OpaqueData},
	} {
		if _, err := s.PutOpaque(t.Context(), o, []byte("x")); err == nil {
			t.Errorf("%s: it is stored", name)
		}
	}
	if _, err := s.ListObjects(t.Context(), yubihsm.Filter{Label: long}); err == nil {
		t.Error("a filter with a long label")
	}
	for _, o := range []yubihsm.Object{{Domains: 1, Algorithm: yubihsm.AES128CCMWrap}, {Domains: 1, Algorithm: yubihsm.Ed25519}} {
		if _, err := s.PutWrapKey(t.Context(), o, make([]byte, 32)); err == nil {
			t.Errorf("a wrap key of %v", o.Algorithm)
		}
	}
	if err := s.SetCommandAudit(t.Context(), map[yubihsm.Command]yubihsm.Audit{yubihsm.CommandSessionMessage: yubihsm.AuditOn}); err == nil {
		t.Error("session messages are logged")
	}
	if _, err := s.PutAuthenticationKey(t.Context(), yubihsm.Object{Domains: 1}, yubihsm.AuthenticationKey{}); err == nil {
		t.Error("an authentication key that is none")
	}
	if err := s.ChangeAuthenticationKey(t.Context(), yubihsm.AuthenticationKey{}); err == nil {
		t.Error("the authentication key is none")
	}
	if n := d.Count(yubihsmtest.Any); n != before {
		t.Errorf("%d messages are sent", n-before)
	}
}

func TestAuthenticationKeys(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	s := dial(t, d)
	can := yubihsm.SignEdDSA | yubihsm.ChangeAuthenticationKey
	id := must[uint16](t)(s.PutAuthenticationKey(t.Context(), yubihsm.Object{ID: 0x0304, Label: "validator", Domains: yubihsm.Domain(1),
		Capabilities: can, Algorithm: yubihsm.AES128YubicoAuthentication, Delegated: yubihsm.ExportableUnderWrap}, yubihsm.DeriveKey([]byte("four"))))
	info := must[yubihsm.ObjectInfo](t)(s.ObjectInfo(t.Context(), yubihsm.TypeAuthenticationKey, id))
	if info.Capabilities != can || info.Delegated != yubihsm.ExportableUnderWrap {
		t.Errorf("%+v", info)
	}
	four := open(t, d, id, yubihsm.DeriveKey([]byte("four")))
	_, err := four.GenerateAsymmetricKey(t.Context(), yubihsm.Object{Domains: 1, Algorithm: yubihsm.Ed25519})
	refusal(t, four, err, yubihsm.InsufficientPermissions)
	if err := four.ChangeAuthenticationKey(t.Context(), yubihsm.DeriveKey([]byte("five"))); err != nil {
		t.Fatal(err)
	}
	if err := four.Echo(t.Context(), nil); err != nil {
		t.Errorf("after the change: %v", err)
	}
	open(t, d, id, yubihsm.DeriveKey([]byte("five")))
}

// TestWrap clones a key from one device to another.
func TestWrap(t *testing.T) {
	from, to := yubihsmtest.New(t, yubihsmtest.Options{}), yubihsmtest.New(t, yubihsmtest.Options{})
	a, b := dial(t, from), dial(t, to)
	wrap := yubihsm.Object{ID: 1, Label: "wrap", Domains: yubihsm.AllDomains, Capabilities: yubihsm.ExportWrapped | yubihsm.ImportWrapped | yubihsm.WrapData | yubihsm.UnwrapData,
		Algorithm: yubihsm.AES256CCMWrap, Delegated: yubihsm.AllCapabilities}
	secret := bytes.Repeat([]byte{3}, 32)
	for _, s := range []*yubihsm.Session{a, b} {
		must[uint16](t)(s.PutWrapKey(t.Context(), wrap, secret))
	}
	key := must[uint16](t)(a.GenerateAsymmetricKey(t.Context(), yubihsm.Object{ID: 3, Domains: 1, Capabilities: yubihsm.SignEdDSA | yubihsm.ExportableUnderWrap, Algorithm: yubihsm.Ed25519}))
	blob := must[[]byte](t)(a.ExportWrapped(t.Context(), 1, yubihsm.TypeAsymmetricKey, key))
	typ, id, err := b.ImportWrapped(t.Context(), 1, blob)
	if err != nil || typ != yubihsm.TypeAsymmetricKey || id != key {
		t.Fatalf("%v 0x%04x, %v", typ, id, err)
	}
	message := []byte("the same on both")
	one, two := must[[]byte](t)(a.SignEdDSA(t.Context(), key, message)), must[[]byte](t)(b.SignEdDSA(t.Context(), key, message))
	if !bytes.Equal(one, two) {
		t.Error("the clone signs otherwise")
	}
	data := must[[]byte](t)(a.WrapData(t.Context(), 1, message))
	if plain := must[[]byte](t)(b.UnwrapData(t.Context(), 1, data)); !bytes.Equal(plain, message) {
		t.Errorf("wrapped data open as %x", plain)
	}
	if plain := must[[]byte](t)(b.UnwrapData(t.Context(), 1, must[[]byte](t)(a.WrapData(t.Context(), 1, nil)))); len(plain) != 0 {
		t.Errorf("no data open as %x", plain)
	}
	if _, err := b.UnwrapData(t.Context(), 1, data[:28]); err == nil {
		t.Error("data without nonce and tag open")
	}
	data[20] ^= 1
	_, err = b.UnwrapData(t.Context(), 1, data)
	refusal(t, b, err, yubihsm.InvalidData)
	blob[20] ^= 1
	_, _, err = b.ImportWrapped(t.Context(), 1, blob)
	var refused *yubihsm.DeviceError
	if !errors.As(err, &refused) {
		t.Errorf("a changed blob: %v", err)
	}
	own := must[uint16](t)(a.GenerateWrapKey(t.Context(), yubihsm.Object{Domains: 1, Algorithm: yubihsm.AES128CCMWrap, Delegated: 1}))
	if info := must[yubihsm.ObjectInfo](t)(a.ObjectInfo(t.Context(), yubihsm.TypeWrapKey, own)); info.Algorithm != yubihsm.AES128CCMWrap || info.Origin != yubihsm.Generated {
		t.Errorf("%+v", info)
	}
}

func TestAttestation(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	s := dial(t, d)
	key := must[uint16](t)(s.GenerateAsymmetricKey(t.Context(), yubihsm.Object{Domains: 1, Capabilities: yubihsm.SignEdDSA, Algorithm: yubihsm.Ed25519}))
	certificate, err := x509.ParseCertificate(must[[]byte](t)(s.SignAttestationCertificate(t.Context(), key, 0)))
	if err != nil {
		t.Fatal(err)
	}
	public := must[yubihsm.PublicKey](t)(s.PublicKey(t.Context(), key))
	if k, ok := certificate.PublicKey.(ed25519.PublicKey); !ok || !bytes.Equal(k, public.Bytes) {
		t.Errorf("it is over %v", certificate.PublicKey)
	}
}

func TestLog(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	s := dial(t, d)
	if err := s.SetCommandAudit(t.Context(), map[yubihsm.Command]yubihsm.Audit{yubihsm.CommandEcho: yubihsm.AuditOff, yubihsm.CommandSignEdDSA: yubihsm.AuditOn}); err != nil {
		t.Fatal(err)
	}
	commands := must[map[yubihsm.Command]yubihsm.Audit](t)(s.CommandAudit(t.Context()))
	if commands[yubihsm.CommandSignEdDSA] != yubihsm.AuditOn || commands[yubihsm.CommandEcho] != yubihsm.AuditOff || len(commands) < 20 {
		t.Errorf("%v", commands)
	}
	d.ProvisionEd25519(t, 9)
	must[[]byte](t)(s.SignEdDSA(t.Context(), 9, []byte("x")))
	log := must[yubihsm.Log](t)(s.LogEntries(t.Context()))
	last := log.Entries[len(log.Entries)-1]
	if last.Command != yubihsm.CommandSignEdDSA || last.Target != 9 || last.Session != 1 || last.Length != 3 || last.Result != 0xea {
		t.Errorf("%+v", last)
	}
	if err := s.SetLogIndex(t.Context(), last.Number); err != nil {
		t.Fatal(err)
	}
	must[[]byte](t)(s.SignEdDSA(t.Context(), 9, []byte("x")))
	next := must[yubihsm.Log](t)(s.LogEntries(t.Context())).Entries
	if len(next) == 0 || !next[0].Follows(last) || next[0].Follows(next[0]) {
		t.Errorf("%+v", next)
	}

	if audit := must[yubihsm.Audit](t)(s.ForceAudit(t.Context())); audit != yubihsm.AuditOff {
		t.Errorf("force-audit is %d", audit)
	}
	if err := s.SetForceAudit(t.Context(), yubihsm.AuditOn); err != nil || must[yubihsm.Audit](t)(s.ForceAudit(t.Context())) != yubihsm.AuditOn {
		t.Errorf("force-audit: %v", err)
	}
	for range yubihsmtest.LogSize {
		_, err := s.SignEdDSA(t.Context(), 9, []byte("x"))
		if err != nil {
			refusal(t, s, err, yubihsm.LogFull)
			break
		}
	}
	full := must[yubihsm.Log](t)(s.LogEntries(t.Context())).Entries
	if len(full) != yubihsmtest.LogSize {
		t.Errorf("a full log has %d entries", len(full))
	}
	for i := range full[1:] {
		if !full[i+1].Follows(full[i]) {
			t.Errorf("entry %d does not follow: %+v", i+1, full[i+1])
		}
	}
	full[5].Target++
	if full[5].Follows(full[4]) {
		t.Error("a changed entry follows")
	}
}

func TestReset(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	s := dial(t, d)
	other := dial(t, d)
	d.ProvisionEd25519(t, 9)
	if err := s.ResetDevice(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Echo(t.Context(), nil); !errors.Is(err, yubihsm.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	var over *yubihsm.SessionError
	if err := other.Echo(t.Context(), nil); !errors.As(err, &over) {
		t.Errorf("another session: %v", err)
	}
	_, err := dial(t, d).SignEdDSA(t.Context(), 9, nil)
	var refused *yubihsm.DeviceError
	if !errors.As(err, &refused) || refused.Code != yubihsm.ObjectNotFound {
		t.Errorf("the key: %v", err)
	}
}

// TestAnswersOfAWrongDevice: a device that authenticates and then answers in another form.
func TestAnswersOfAWrongDevice(t *testing.T) {
	id := uint16(100)
	next := func() uint16 { id++; return id }
	calls := map[byte]func(s *yubihsm.Session) error{
		yubihsmtest.Echo:                 func(s *yubihsm.Session) error { return s.Echo(t.Context(), []byte("xyz")) },
		yubihsmtest.SignEdDSA:            func(s *yubihsm.Session) error { _, err := s.SignEdDSA(t.Context(), 9, nil); return err },
		byte(yubihsm.CommandListObjects): func(s *yubihsm.Session) error { _, err := s.ListObjects(t.Context(), yubihsm.Filter{}); return err },
		byte(yubihsm.CommandGetObjectInfo): func(s *yubihsm.Session) error {
			_, err := s.ObjectInfo(t.Context(), yubihsm.TypeAsymmetricKey, 9)
			return err
		},
		byte(yubihsm.CommandWrapData):                   func(s *yubihsm.Session) error { _, err := s.WrapData(t.Context(), 1, []byte("x")); return err },
		byte(yubihsm.CommandGetStorageInfo):             func(s *yubihsm.Session) error { _, err := s.StorageInfo(t.Context()); return err },
		byte(yubihsm.CommandGetPublicKey):               func(s *yubihsm.Session) error { _, err := s.PublicKey(t.Context(), 9); return err },
		byte(yubihsm.CommandGetLogEntries):              func(s *yubihsm.Session) error { _, err := s.LogEntries(t.Context()); return err },
		byte(yubihsm.CommandGetPseudoRandom):            func(s *yubihsm.Session) error { _, err := s.PseudoRandom(t.Context(), 3); return err },
		byte(yubihsm.CommandBlinkDevice):                func(s *yubihsm.Session) error { return s.Blink(t.Context(), 1) },
		byte(yubihsm.CommandGetOption):                  func(s *yubihsm.Session) error { _, err := s.ForceAudit(t.Context()); return err },
		byte(yubihsm.CommandSignAttestationCertificate): func(s *yubihsm.Session) error { _, err := s.SignAttestationCertificate(t.Context(), 9, 0); return err },
		byte(yubihsm.CommandPutOpaque): func(s *yubihsm.Session) error {
			_, err := s.PutOpaque(t.Context(), yubihsm.Object{ID: next(), Domains: 1, Algorithm: yubihsm.OpaqueData}, []byte("x"))
			return err
		},
	}
	// changes are bytes of an answer by which it is that of something else.
	changes := map[byte]int{
		byte(yubihsm.CommandPutOpaque): 1, byte(yubihsm.CommandGetObjectInfo): 9, yubihsmtest.Echo: 2,
	}
	for command, call := range calls {
		d := yubihsmtest.New(t, yubihsmtest.Options{})
		d.ProvisionEd25519(t, 9)
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.WrapKey, ID: 1, Algorithm: yubihsmtest.AES128CCM, Capabilities: yubihsmtest.CanWrapData}, make([]byte, 16))
		s := dial(t, d)
		d.Always(command, yubihsmtest.Spoil(func(data []byte) []byte { return append(data, 7) }))
		if err := call(s); !errors.Is(err, yubihsm.ErrMalformed) {
			t.Errorf("%v with a byte more: %v", yubihsm.Command(command), err)
		}
		d.Heal()
		if changed, ok := changes[command]; ok {
			d.Next(command, yubihsmtest.Spoil(func(data []byte) []byte { data[changed] ^= 1; return data }))
			if err := call(s); !errors.Is(err, yubihsm.ErrMalformed) {
				t.Errorf("%v with another byte: %v", yubihsm.Command(command), err)
			}
		}
		if err := s.Echo(t.Context(), nil); err != nil {
			t.Errorf("after %v: %v", yubihsm.Command(command), err)
		}
		if err := call(s); err != nil {
			t.Errorf("%v: %v", yubihsm.Command(command), err)
		}
	}
}
