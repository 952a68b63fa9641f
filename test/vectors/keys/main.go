// Command keys writes the golden vectors of validator keys, made by CometBFT
// itself, to standard output. Run it again and the same bytes come out:
//
//	go run . > ../../../internal/pubkey/testdata/keys.txt
//
// Each key is a block of lines "name value"; a block ends with an empty line.
// Public keys, messages and signatures are hex; file is what CometBFT writes
// to priv_validator_key.json. A reject line holds a signature over the message
// before it that CometBFT refuses.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"log"
	"math/big"
	"os"
	"runtime/debug"

	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/crypto/mldsa65"
	"github.com/cometbft/cometbft/crypto/secp256k1"
	"github.com/cometbft/cometbft/crypto/secp256k1eth"
	cmtjson "github.com/cometbft/cometbft/libs/json"
)

// keyFile has the fields of privval.FilePVKey, whose package would link libp2p.
type keyFile struct {
	Address crypto.Address `json:"address"`
	PubKey  crypto.PubKey  `json:"pub_key"`
	PrivKey crypto.PrivKey `json:"priv_key"`
}

// order is the order N of secp256k1.
const order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"

func main() {
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(w, "# Made by test/vectors/keys with CometBFT %s. Not edited by hand.\n\n", cometbft())
	for i := range 3 {
		seed := sha256.Sum256(fmt.Appendf(nil, "privyseal vector %d", i))
		ml, err := mldsa65.GenPrivKeyFromSeed(seed[:])
		if err != nil {
			log.Fatal(err)
		}
		write(w, ed25519.GenPrivKeyFromSecret(seed[:]))
		write(w, secp256k1.GenPrivKeySecp256k1(seed[:]))
		write(w, secp256k1eth.GenPrivKeySecp256k1Eth(seed[:]))
		write(w, ml)
	}
	// The least and the greatest secret scalar.
	n, _ := new(big.Int).SetString(order, 16)
	for _, d := range []*big.Int{big.NewInt(1), new(big.Int).Sub(n, big.NewInt(1))} {
		b := d.FillBytes(make([]byte, 32))
		write(w, secp256k1.PrivKey(b))
		write(w, secp256k1eth.PrivKey(b))
	}
	if err := w.Flush(); err != nil {
		log.Fatal(err)
	}
}

// cometbft returns the version of the module that makes the vectors; its own
// version package still says 0.39.0 in v0.40.0.
func cometbft() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		log.Fatal("no build information")
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/cometbft/cometbft" {
			return m.Version
		}
	}
	log.Fatal("CometBFT is not linked in")
	return ""
}

func write(w *bufio.Writer, priv crypto.PrivKey) {
	pub := priv.PubKey()
	fmt.Fprintf(w, "type %s\n", pub.Type())
	fmt.Fprintf(w, "public %x\n", pub.Bytes())
	fmt.Fprintf(w, "address %X\n", []byte(pub.Address()))
	fmt.Fprintf(w, "json %s\n", encode(pub))
	fmt.Fprintf(w, "file %s\n", encode(keyFile{pub.Address(), pub, priv}))
	for _, msg := range [][]byte{{}, []byte("privyseal"), bytes.Repeat([]byte{0xa5, 0x00, 0xff}, 70)} {
		sig, err := priv.Sign(msg)
		if err != nil {
			log.Fatal(err)
		}
		if !pub.VerifySignature(msg, sig) {
			log.Fatalf("%s: CometBFT refuses its own signature", pub.Type())
		}
		fmt.Fprintf(w, "message %x\nsignature %x\n", msg, sig)
		if len(msg) != len("privyseal") {
			continue
		}
		for _, bad := range spoiled(sig) {
			if pub.VerifySignature(msg, bad) {
				log.Fatalf("%s: CometBFT accepts %x", pub.Type(), bad)
			}
			fmt.Fprintf(w, "reject %x\n", bad)
		}
	}
	fmt.Fprintln(w)
}

// spoiled returns signatures that are nearly sig: too short, too long, a bit
// of each half wrong, the last byte off by one and two, and S negated, which
// is a valid but malleable ECDSA signature.
func spoiled(sig []byte) [][]byte {
	alter := func(f func(s []byte)) []byte {
		s := bytes.Clone(sig)
		f(s)
		return s
	}
	bad := [][]byte{
		sig[:len(sig)-1],
		append(bytes.Clone(sig), 0),
		alter(func(s []byte) { s[5] ^= 1 }),
		alter(func(s []byte) { s[40] ^= 1 }),
		alter(func(s []byte) { s[len(s)-1] ^= 1 }),
		alter(func(s []byte) { s[len(s)-1] += 2 }),
	}
	if len(sig) > 65 {
		return bad
	}
	return append(bad, alter(func(s []byte) {
		n, _ := new(big.Int).SetString(order, 16)
		negated := new(big.Int).Sub(n, new(big.Int).SetBytes(s[32:64]))
		negated.Mod(negated, n).FillBytes(s[32:64])
		if len(s) == 65 {
			s[64] ^= 1
		}
	}))
}

func encode(v any) []byte {
	b, err := cmtjson.Marshal(v)
	if err != nil {
		log.Fatal(err)
	}
	return b
}
