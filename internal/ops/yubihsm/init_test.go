package yubihsm

import (
	"bytes"
	"crypto/sha512"
	"os"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// Each way to a key leaves a home folder that signs with it, on each device.
func TestInit(t *testing.T) {
	past := []string{"--after-height", "1000", "--yes"}
	for name, tt := range map[string]struct {
		devices  int
		imported pubkey.Type // "" for none
		taken    byte        // algorithm, 0 for none
		order    home.Order
		args     []string
		want     pubkey.Type
	}{
		"made":                {devices: 1, want: pubkey.Ed25519},
		"made of secp256k1":   {devices: 1, order: home.Order{KeyType: "secp256k1"}, want: pubkey.Secp256k1},
		"taken":               {devices: 1, taken: yubihsmtest.Ed25519, args: append(past, "--yubihsm-take"), want: pubkey.Ed25519},
		"taken of secp256k1":  {devices: 1, taken: yubihsmtest.K256, args: append(past, "--yubihsm-take"), want: pubkey.Secp256k1},
		"taken of two":        {devices: 2, taken: yubihsmtest.Ed25519, args: append(past, "--yubihsm-take"), want: pubkey.Ed25519},
		"imported":            {devices: 1, imported: pubkey.Ed25519, args: past, want: pubkey.Ed25519},
		"imported, secp256k1": {devices: 1, imported: pubkey.Secp256k1, order: home.Order{KeyType: "secp256k1"}, args: past, want: pubkey.Secp256k1},
		"imported to two":     {devices: 2, imported: pubkey.Ed25519, args: past, want: pubkey.Ed25519},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tt.devices)
			want := pubkey.Key{}
			if tt.imported != "" {
				path, secret := w.KeyFile("old.key", tt.imported)
				tt.order.ImportKey, want = path, secret.PublicKey()
			}
			if tt.taken != 0 {
				w.Provision(7, tt.taken, 1)
			}
			out, err := w.init(tt.order, append(w.set(w.admin("--yubihsm-key-id", "7")...), tt.args...)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			w.signs(tt.want, want)
			for _, d := range w.Dev {
				for _, o := range d.Objects() {
					if o.Type == yubihsmtest.AsymmetricKey && (o.ID != 7 || o.Capabilities&yubihsmtest.ExportableUnderWrap != 0) {
						t.Errorf("%+v", o)
					}
				}
			}
		})
	}
}

// signs opens the key of the first chain and has each device sign with it.
func (w *world) signs(kind pubkey.Type, want pubkey.Key) {
	w.T.Helper()
	c := w.Config()
	h := &Holder{}
	public, err := h.Public(c, c.Chains[0])
	if err != nil || public.Type() != kind || !want.IsZero() && !public.Equal(want) {
		w.T.Errorf("%v, %v", public, err)
	}
	set := c.Tables[reach.Table]["main"].(*reach.Set)
	for _, address := range set.Device {
		one := *set
		one.Device = []string{address}
		c.Tables[reach.Table]["main"] = &one
		key, err := h.Open(w.T.Context(), c, c.Chains[0])
		if err != nil {
			w.T.Fatal(err)
		}
		signature, err := key.Sign(nil, []byte("a vote"), nil)
		if err != nil || !public.Verify([]byte("a vote"), signature) {
			w.T.Errorf("%x, %v", signature, err)
		}
		key.Close()
	}
}

// A connector that others reach is used, and said to be one.
func TestInitWithAnOpenConnector(t *testing.T) {
	w := newWorld(t, 2)
	w.Provision(7, yubihsmtest.Ed25519, 1)
	w.Devices[1] = strings.Replace(w.Devices[1], "127.0.0.1", "0.0.0.0", 1)
	out, err := w.init(home.Order{}, append(w.set("--yubihsm-key-id", "7"), "--yubihsm-take", "--after-height", "1000", "--yes")...)
	if err != nil || strings.Count(out, " is not on this host: whoever reaches it ") != 1 || !strings.Contains(out, w.Devices[1]+" is not on this host: ") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What cannot be is said before anything is made, here and on every device.
func TestInitRefuses(t *testing.T) {
	past := []string{"--after-height", "1000", "--yes"}
	taking := append(past, "--yubihsm-take", "--yubihsm-key-id", "7")
	flag := func(name, value string) []string { return []string{name, value} }
	for name, tt := range map[string]struct {
		before func(w *world)
		order  home.Order
		args   []string
		bare   bool // without the flags of the devices
		want   string
	}{
		"no id":                    {args: []string{}, want: "--yubihsm-key-id is missing"},
		"take and import":          {order: home.Order{ImportKey: "x"}, args: append(taking, "--yubihsm-take"), want: "--yubihsm-take is for a key that is on the device"},
		"take, exportable":         {args: append(taking, "--yubihsm-exportable"), want: "--yubihsm-exportable is for"},
		"half an administrator":    {args: []string{"--yubihsm-key-id", "7", "--yubihsm-admin-password-file", ""}, want: "go together"},
		"no device":                {bare: true, args: []string{"--yubihsm-key-id", "7"}, want: "--yubihsm-device is missing: there is no [yubihsm.main]"},
		"a wrong device":           {args: []string{"--yubihsm-key-id", "7", "--yubihsm-device", "ftp://x"}, want: "--yubihsm-device is wrong"},
		"an empty name of a file":  {args: []string{"--yubihsm-key-id", "7", "--yubihsm-password-file", ""}, want: "--yubihsm-password-file is empty"},
		"taken without a state":    {args: []string{"--yubihsm-take", "--yubihsm-key-id", "7"}, want: "a key that is taken may have signed before"},
		"a state of a new key":     {args: append(flag("--yubihsm-key-id", "7"), past...), want: "a new key has signed nothing"},
		"another type":             {order: home.Order{KeyType: "ml_dsa_65"}, args: flag("--yubihsm-key-id", "7"), want: "a YubiHSM signs with ed25519 and secp256k1 keys, and not with ml_dsa_65"},
		"a wrong password":         {before: func(w *world) { w.File("four", "five") }, args: flag("--yubihsm-key-id", "7"), want: "is not the one of authentication key 0x0004"},
		"a password that is empty": {before: func(w *world) { w.File("four", "\n") }, args: flag("--yubihsm-key-id", "7"), want: "does not hold a password"},
		"a password to read":       {before: func(w *world) { os.Chmod(w.Path("four"), 0o644) }, args: flag("--yubihsm-key-id", "7"), want: "so that others may have read it"},
		"no such auth key":         {args: []string{"--yubihsm-key-id", "7", "--yubihsm-auth-key", "9"}, want: "has no authentication key 0x0009"},
		"one that may not sign": {before: func(w *world) {
			for _, d := range w.Dev {
				d.ProvisionAuth(w.T, 4, "four", yubihsmtest.CanSignECDSA)
			}
		}, args: flag("--yubihsm-key-id", "7"), want: "it lacks the capability sign-eddsa"},
		"one that may not make": {args: []string{"--yubihsm-key-id", "7", "--yubihsm-admin-auth-key", "4", "--yubihsm-admin-password-file", "FOUR"}, want: "it lacks the capability generate-asymmetric-key"},
		"one that delegates nothing": {before: func(w *world) {
			for _, d := range w.Dev {
				d.ProvisionAuth(w.T, 2, "two", reachtest.Makes)
			}
		}, args: flag("--yubihsm-key-id", "7"), want: "it lacks the delegated capability sign-eddsa"},
		"nothing to take":        {args: taking, want: "there is no key to take"},
		"a key of another curve": {before: func(w *world) { w.Provision(7, yubihsmtest.P256, 1) }, args: taking, want: "no chain signs with that"},
		"not the type":           {before: func(w *world) { w.Provision(7, yubihsmtest.K256, 1) }, order: home.Order{KeyType: "ed25519"}, args: taking, want: "--key-type ed25519"},
		"the id is taken":        {before: func(w *world) { w.Provision(7, yubihsmtest.Ed25519, 1) }, args: flag("--yubihsm-key-id", "7"), want: "is taken"},
		"no device there":        {before: func(w *world) { w.Dev[0].Unplug() }, args: flag("--yubihsm-key-id", "7"), want: "reaches no device"},
		"no connector there":     {before: func(w *world) { w.Dev[0].StopConnector() }, args: flag("--yubihsm-key-id", "7"), want: "no answer from the YubiHSM connector"},
		"all sessions in use": {before: func(w *world) {
			w.Dev[0].Always(yubihsmtest.CreateSession, yubihsmtest.Fails(yubihsmtest.SessionsFull))
		}, args: flag("--yubihsm-key-id", "7"),
			want: "all 16 sessions of"},
		"something else answers": {before: func(w *world) {
			w.Dev[0].Always(yubihsmtest.CreateSession, yubihsmtest.Answer([]byte("<html>")))
		}, args: flag("--yubihsm-key-id", "7"), want: "is not a YubiHSM connector"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			if tt.before != nil {
				tt.before(w)
			}
			before := w.Objects()
			args := append([]string{}, tt.args...)
			for i := range args {
				args[i] = strings.Replace(args[i], "FOUR", w.Path("four"), 1)
			}
			if !tt.bare {
				args = append(w.set(w.admin()...), args...)
			}
			out, err := w.init(tt.order, args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q\n%s", err, tt.want, out)
			}
			if _, err := os.Stat(w.Home); err == nil {
				t.Error("a home was made")
			}
			w.Untouched(before)
		})
	}
}

// A key that a device does not take is refused before one is asked.
func TestImportRefuses(t *testing.T) {
	expanded := sha512.Sum512(make([]byte, 32))
	expanded[0], expanded[31] = expanded[0]&248, expanded[31]&63|64
	noSeed, err := soft.FromSecret(pubkey.Ed25519, expanded[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		key        func(w *world) string
	}{
		{"no seed", "a YubiHSM takes ed25519 keys that have their seed", func(w *world) string {
			if err := keyfile.Create(w.Path("old.key"), noSeed); err != nil {
				t.Fatal(err)
			}
			return w.Path("old.key")
		}},
		{"another type", "a YubiHSM signs with ed25519 and secp256k1 keys, and not with secp256k1eth", func(w *world) string {
			path, _ := w.KeyFile("old.key", pubkey.Secp256k1Eth)
			return path
		}},
	} {
		w := newWorld(t, 1)
		_, err := w.init(home.Order{ImportKey: tt.key(w)}, append(w.set(w.admin()...), "--yubihsm-key-id", "7", "--after-height", "1000", "--yes")...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if n := w.Dev[0].Count(yubihsmtest.Any); n != 0 {
			t.Errorf("%s: the device got %d commands", tt.name, n)
		}
	}
}

// What was on one device is not made, and not overwritten, on another.
func TestInitRefusesOneOfTwo(t *testing.T) {
	path := func(w *world) string { path, _ := w.KeyFile("old.key", pubkey.Ed25519); return path }
	past := []string{"--after-height", "1000", "--yes", "--yubihsm-key-id", "7"}
	for name, tt := range map[string]struct {
		before func(w *world)
		order  func(w *world) home.Order
		args   []string
		want   string
	}{
		"made on two": {func(*world) {}, func(*world) home.Order { return home.Order{} }, []string{"--yubihsm-key-id", "7"}, "a key is made on one device, and [yubihsm.main] has 2"},
		"another key on the second": {func(w *world) {
			w.Provision(7, yubihsmtest.Ed25519, 1)
			w.Dev[1].Swap(w.T, 7)
		}, func(*world) home.Order { return home.Order{} }, append(past, "--yubihsm-take"), "the devices of a set hold the same keys"},
		"taken on the second": {func(w *world) {
			w.Provision(7, yubihsmtest.Ed25519, 1)
			w.Dev[0].Remove(yubihsmtest.AsymmetricKey, 7)
		}, func(w *world) home.Order { return home.Order{ImportKey: path(w)} }, past, "is taken"},
		"not on the second": {func(w *world) {
			w.Provision(7, yubihsmtest.Ed25519, 1)
			w.Dev[1].Remove(yubihsmtest.AsymmetricKey, 7)
		}, func(*world) home.Order { return home.Order{} }, append(past, "--yubihsm-take"), "there is no key to take"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			tt.before(w)
			before := w.Objects()
			out, err := w.init(tt.order(w), append(w.set(w.admin()...), tt.args...)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q\n%s", err, tt.want, out)
			}
			w.Untouched(before)
		})
	}
}

// What is said of a new key on several devices works as it is printed.
func TestNewKeyOnTwo(t *testing.T) {
	for _, kind := range []string{"ed25519", "secp256k1"} {
		w := newWorld(t, 2)
		const wraps = yubihsmtest.CanExportWrapped | yubihsmtest.CanImportWrapped
		for _, d := range w.Dev {
			d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 2, Algorithm: yubihsmtest.AES128Auth, Capabilities: reachtest.Makes | wraps, Delegated: reachtest.Makes}, []byte("two"))
			d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.WrapKey, ID: 1, Algorithm: yubihsmtest.AES256CCM, Capabilities: wraps, Delegated: reachtest.Makes}, bytes.Repeat([]byte{9}, 32))
		}
		args := append(w.set(w.admin()...), "--yubihsm-key-id", "7")
		order := home.Order{KeyType: pubkey.Type(kind)}
		_, err := w.init(order, args...)
		if err == nil || !strings.HasPrefix(err.Error(), "a key is made on one device, and [yubihsm.main] has 2\n") {
			t.Fatal(err)
		}
		parts := strings.Split(err.Error(), "`")
		if len(parts) != 5 {
			t.Fatal(err)
		}
		w.Must("made the key 0x0007", append(strings.Fields(parts[1])[2:], "--no-attestation")...)
		w.Must("is copied, and signs as", strings.Fields(parts[3])[2:]...)
		if out, err := w.init(order, append(args, "--yubihsm-take", "--fresh-state", "--yes")...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		w.signs(pubkey.Type(kind), pubkey.Key{})
	}
}

// An import that was interrupted goes on when it is typed again: what has the key is left
// as it is.
func TestImportTwice(t *testing.T) {
	w := newWorld(t, 2)
	path, secret := w.KeyFile("old.key", pubkey.Ed25519)
	args := append(w.set(w.admin()...), "--yubihsm-key-id", "7", "--after-height", "1000", "--yes")
	w.Dev[1].Always(yubihsmtest.PutAsymmetricKey, yubihsmtest.Fails(yubihsmtest.StorageFailed))
	if _, err := w.init(home.Order{ImportKey: path}, args...); err == nil || !strings.Contains(err.Error(), "storage failure") {
		t.Fatal(err)
	}
	w.Dev[1].Heal()
	if out, err := w.init(home.Order{ImportKey: path}, args...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.signs(pubkey.Ed25519, secret.PublicKey())
	if n := w.Dev[0].Count(yubihsmtest.PutAsymmetricKey); n != 1 {
		t.Errorf("imported %d times to the first device", n)
	}
}

// What a device says that it has imported is compared with what it was given.
func TestAnotherKeyThanImported(t *testing.T) {
	w := newWorld(t, 1)
	path, _ := w.KeyFile("old.key", pubkey.Ed25519)
	_, other := w.KeyFile("other.key", pubkey.Ed25519)
	lies := yubihsmtest.Spoil(func(data []byte) []byte { return append(data[:1], other.PublicKey().Bytes()...) })
	w.Dev[0].Next(yubihsmtest.GetPublicKey, nil, lies)
	args := append(w.set(w.admin()...), "--yubihsm-key-id", "7", "--after-height", "1000", "--yes")
	if _, err := w.init(home.Order{ImportKey: path}, args...); err == nil || !strings.Contains(err.Error(), " has made the key ") {
		t.Error(err)
	}
}

// A key that was made and does not sign is said to be there.
func TestMadeAndDoesNotSign(t *testing.T) {
	w := newWorld(t, 1)
	w.Dev[0].Always(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature())
	_, err := w.init(home.Order{}, append(w.set(w.admin()...), "--yubihsm-key-id", "7")...)
	if err == nil || !strings.Contains(err.Error(), "the key is on the device now, and does not sign") || !strings.HasSuffix(err.Error(), "with --yubihsm-take") {
		t.Error(err)
	}
	if _, err := os.Stat(w.Home); err == nil {
		t.Error("a home was made")
	}
}

// A second chain names the same devices and another key; a table that is there is not
// changed by flags.
func TestSecondChain(t *testing.T) {
	w := newWorld(t, 1)
	t.Chdir(w.Dir)
	if out, err := w.init(home.Order{}, append(w.set(w.admin()...), "--yubihsm-key-id", "7", "--yubihsm-exportable", "--yubihsm-password-file", "four")...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	exportable := func(o yubihsmtest.Object) bool {
		return o.Type == yubihsmtest.AsymmetricKey && o.Capabilities&yubihsmtest.ExportableUnderWrap != 0
	}
	if !slices.ContainsFunc(w.Dev[0].Objects(), exportable) {
		t.Errorf("no key can be exported: %+v", w.Dev[0].Objects())
	}
	second := home.Order{ChainID: "chain-2"}
	if _, err := w.init(second, append(w.set(w.admin()...), "--yubihsm-key-id", "8")...); err == nil || !strings.Contains(err.Error(), "--yubihsm-device: there is a [yubihsm.main]") {
		t.Error(err)
	}
	if out, err := w.init(second, w.admin("--yubihsm-key-id", "8")...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := w.Config()
	h := &Holder{}
	var keys []provider.Key
	for _, ch := range c.Chains {
		key, err := h.Open(t.Context(), c, ch)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	for _, key := range keys {
		if signature, err := key.Sign(nil, []byte("a vote"), nil); err != nil || !key.PublicKey().Verify([]byte("a vote"), signature) {
			t.Errorf("%x, %v", signature, err)
		}
	}
	if n := w.Dev[0].Sessions(); n != 1 {
		t.Errorf("two chains have %d sessions", n)
	}
	for i, key := range keys {
		key.Close()
		key.Close()
		if n := w.Dev[0].Sessions(); n != 1-i {
			t.Errorf("%d sessions after %d of 2 chains closed", n, i+1)
		}
	}
	if err := w.try(w.open(h, c)); err != nil {
		t.Errorf("opened again: %v", err)
	}
}

// domains puts signer, administrator and, if it is in any, a key 7 into domains.
func (w *world) domains(signer, admin, key uint16) {
	auth := yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 4, Algorithm: yubihsmtest.AES128Auth, Domains: signer, Capabilities: reachtest.Signs}
	w.Dev[0].Provision(w.T, auth, []byte("four"))
	auth.ID, auth.Domains, auth.Capabilities, auth.Delegated = 2, admin, reachtest.Makes, reachtest.Makes
	w.Dev[0].Provision(w.T, auth, []byte("two"))
	if key != 0 {
		w.Dev[0].Provision(w.T, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 7, Algorithm: yubihsmtest.Ed25519, Domains: key, Capabilities: reachtest.Signs}, make([]byte, 32))
	}
}

// A key that is made is where the signer sees it, and nowhere else.
func TestDomains(t *testing.T) {
	for name, tt := range map[string]struct {
		signer, admin, key uint16
		want               string // of the error; "" for none, and the key in domain 2
	}{
		"one in common":      {0b0110, 0b1010, 0, ""},
		"none in common":     {0b0110, 0b1000, 0, "has no domain in common with authentication key 0x0004"},
		"taken out of sight": {0b0010, 0b0010, 0b1000, "is taken, in another domain than ours"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.domains(tt.signer, tt.admin, tt.key)
			before := w.Objects()
			_, err := w.init(home.Order{}, append(w.set(w.admin()...), "--yubihsm-key-id", "7")...)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q", err, tt.want)
				}
				w.Untouched(before)
				return
			}
			there := slices.ContainsFunc(w.Dev[0].Objects(), func(o yubihsmtest.Object) bool {
				return o.Type == yubihsmtest.AsymmetricKey && o.Domains == 0b0010
			})
			if err != nil || !there {
				t.Errorf("%v, %+v", err, w.Dev[0].Objects())
			}
		})
	}
}
