package soft

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"filippo.io/edwards25519"

	"privyseal/internal/pubkey"
)

// deal makes shares of a scalar by hand: f(x) = secret + c1·x + c2·x² + …, each c a
// hash, and f(id) for each id.
func deal(t testing.TB, secret *edwards25519.Scalar, threshold int, ids ...int) map[int][]byte {
	t.Helper()
	coefficients := []*edwards25519.Scalar{secret}
	for i := 1; i < threshold; i++ {
		sum := sha512.Sum512([]byte{byte(i), 'c'})
		c, err := new(edwards25519.Scalar).SetUniformBytes(sum[:])
		if err != nil {
			t.Fatal(err)
		}
		coefficients = append(coefficients, c)
	}
	shares := map[int][]byte{}
	for _, id := range ids {
		y, x := edwards25519.NewScalar(), small(id)
		for i := len(coefficients) - 1; i >= 0; i-- { // Horner
			y = edwards25519.NewScalar().MultiplyAdd(y, x, coefficients[i])
		}
		shares[id] = y.Bytes()
	}
	return shares
}

// scalarOfSeed is what Horcrux deals: the first half of the hash of a seed, with the
// bits that RFC 8032 sets and clears.
func scalarOfSeed(t testing.TB, seed []byte) *edwards25519.Scalar {
	t.Helper()
	h := sha512.Sum512(seed)
	s, err := new(edwards25519.Scalar).SetBytesWithClamping(h[:32])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Any threshold of shares makes the key that was dealt, and it signs like any other.
func TestCombine(t *testing.T) {
	seed, err := hex.DecodeString("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	if err != nil {
		t.Fatal(err)
	}
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	secret := scalarOfSeed(t, seed)
	for _, tt := range []struct {
		threshold int
		ids       []int
	}{{2, []int{1, 2}}, {2, []int{1, 3}}, {2, []int{3, 2}}, {2, []int{1, 2, 3}}, {3, []int{2, 3, 5}}, {3, []int{1, 2, 3, 4, 5}}, {2, []int{7, 255}}, {1, []int{9}}} {
		k, err := Combine(deal(t, secret, tt.threshold, tt.ids...))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(k.PublicKey().Bytes(), public) {
			t.Errorf("%v: another key", tt)
		}
		message := []byte("a vote")
		sig, err := k.Sign(nil, message, nil)
		if err != nil || !ed25519.Verify(public, message, sig) {
			t.Errorf("%v: the signature does not verify: %v", tt, err)
		}
		again, err := k.Sign(nil, message, nil)
		if err != nil || !bytes.Equal(sig, again) {
			t.Errorf("%v: not deterministic", tt)
		}
		other, err := k.Sign(nil, []byte("another vote"), nil)
		if err != nil || bytes.Equal(sig[:32], other[:32]) {
			t.Fatalf("%v: one nonce for two messages gives the key away", tt)
		}
	}
}

// One share too few, or one of another dealing, gives another key, never an error
// that says which.
func TestCombineOfTheWrongShares(t *testing.T) {
	secret := scalarOfSeed(t, []byte("a seed"))
	right, err := Combine(deal(t, secret, 2, 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	few, err := Combine(deal(t, secret, 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	mixed := deal(t, secret, 2, 1)
	mixed[2] = deal(t, secret, 3, 2)[2]
	others, err := Combine(mixed)
	if err != nil {
		t.Fatal(err)
	}
	if few.PublicKey().Equal(right.PublicKey()) || others.PublicKey().Equal(right.PublicKey()) {
		t.Error("the same key")
	}
}

func TestCombineRefuses(t *testing.T) {
	good := deal(t, scalarOfSeed(t, []byte("a seed")), 2, 1, 2)
	unreduced := bytes.Repeat([]byte{0xff}, 32)
	for name, shares := range map[string]map[int][]byte{
		"no share":  {},
		"number 0":  {0: good[1], 1: good[2]},
		"too high":  {256: good[1], 1: good[2]},
		"unreduced": {1: unreduced, 2: good[2]},
		"short":     {1: good[1][:31], 2: good[2]},
		"the zero":  {1: make([]byte, 32), 2: make([]byte, 32)},
	} {
		if k, err := Combine(shares); err == nil {
			t.Errorf("%s: %v", name, k)
		}
	}
}

// The nonce is that of RFC 8032, 5.1.6, over a prefix of the key's own: the same message
// has one nonce, two messages and two keys never have the same, and no nonce is what
// another use of the scalar or the public key would give.
func TestNoncesOfABareScalar(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"a seed", "another seed"} {
		secret := scalarOfSeed(t, []byte(name))
		k, err := Combine(deal(t, secret, 2, 1, 2))
		if err != nil {
			t.Fatal(err)
		}
		whole := sha512.Sum512(append([]byte(barePrefix), secret.Bytes()...))
		for n := range 300 {
			message := bytes.Repeat([]byte{byte(n)}, n)
			sig, err := k.Sign(nil, message, nil)
			if err != nil || !ed25519.Verify(k.PublicKey().Bytes(), message, sig) {
				t.Fatalf("message %d: %v", n, err)
			}
			nonce := sha512.Sum512(append(whole[:32:32], message...))
			r, err := new(edwards25519.Scalar).SetUniformBytes(nonce[:])
			if err != nil || !bytes.Equal(sig[:32], new(edwards25519.Point).ScalarBaseMult(r).Bytes()) {
				t.Fatalf("message %d has not the nonce of its key and itself: %v", n, err)
			}
			at := fmt.Sprintf("message %d of %s", n, name)
			if other, taken := seen[string(sig[:32])]; taken {
				t.Fatalf("%s has the nonce of %s", at, other)
			}
			seen[string(sig[:32])] = at
		}
	}
}

// A prefix that everybody knows is refused, whatever brings it in.
func TestKnownPrefixes(t *testing.T) {
	k, err := Combine(deal(t, scalarOfSeed(t, []byte("a seed")), 2, 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	scalar := k.Secret()[:32]
	for name, prefix := range map[string][]byte{
		"nothing": make([]byte, 32), "one byte": bytes.Repeat([]byte{7}, 32), "the public key": k.PublicKey().Bytes(),
	} {
		if _, err := FromSecret(pubkey.Ed25519, append(bytes.Clone(scalar), prefix...)); err == nil || !strings.Contains(err.Error(), "not a secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key of shares keeps its form in our files, and in an enclave's import.
func TestABareScalarKeepsItsForm(t *testing.T) {
	k, err := Combine(deal(t, scalarOfSeed(t, []byte("a seed")), 2, 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	data := k.Encode()
	again, err := Decode(data)
	if err != nil || !again.PublicKey().Equal(k.PublicKey()) || !bytes.Equal(again.Encode(), data) {
		t.Fatalf("%v, %v", again, err)
	}
	raw, err := FromSecret(pubkey.Ed25519, k.Secret())
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []*Key{again, raw} {
		a, _ := k.Sign(nil, []byte("m"), nil)
		b, _ := other.Sign(nil, []byte("m"), nil)
		if !bytes.Equal(a, b) {
			t.Error("it signs in another way")
		}
	}
	// The nonce of a message never changes, whatever the release: two nonces for one
	// message would be two signatures of one vote.
	sig, _ := k.Sign(nil, []byte("m"), nil)
	if got, want := hex.EncodeToString(sig[:8]), "80ce825443703004"; got != want {
		t.Errorf("the signature begins with %s, want %s", got, want)
	}
}
