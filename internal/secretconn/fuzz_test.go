package secretconn

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/binary"
	"slices"
	"testing"
)

// FuzzHandshake plays a peer that sends any first message, and any second one
// in a well sealed record if the first was good. What is accepted must encode
// to the same bytes again.
func FuzzHandshake(f *testing.F) {
	ours, theirs := fixedEphemeral(1), fixedEphemeral(2)
	self, node := fixedIdentity(3), fixedIdentity(4)
	keys, err := derive(theirs, ours.PublicKey().Bytes())
	if err != nil {
		f.Fatal(err)
	}
	hello := encodeEphemeral(theirs.PublicKey().Bytes())
	auth := encodeIdentity(node.Public().(ed25519.PublicKey), ed25519.Sign(node, keys.challenge))
	f.Add(hello, auth)
	f.Add(hello[:10], auth)
	f.Add(hello, auth[:50])
	f.Add(hello, append(auth, auth...))
	f.Add(encodeEphemeral(make([]byte, keySize)), auth)
	f.Add(encodeEphemeral(ours.PublicKey().Bytes()), auth)
	f.Fuzz(func(t *testing.T, hello, auth []byte) {
		sealer := half{aead: keys.send.aead}
		stream := bytes.Clone(hello)
		for chunk := range slices.Chunk(auth, chunkMax) {
			sealed, err := sealer.seal(nil, chunk)
			if err != nil {
				t.Fatal(err)
			}
			stream = append(stream, sealed...)
		}
		c, err := handshake(newTranscript(stream), self, "", ours)
		if err != nil {
			if c != nil {
				t.Error("got a connection with the error")
			}
			return
		}
		key, signature, err := decodeIdentity(auth[:identitySize])
		if err != nil || !bytes.Equal(encodeIdentity(key, signature), auth[:identitySize]) {
			t.Errorf("accepted an identity that does not encode to itself: %x", auth)
		}
		eph, err := decodeEphemeral(hello)
		if err != nil || !bytes.Equal(encodeEphemeral(eph), hello) {
			t.Errorf("accepted an ephemeral key that does not encode to itself: %x", hello)
		}
		if !bytes.Equal(c.remote, key) {
			t.Error("remote is not the key in the message")
		}
	})
}

// FuzzRecords seals frames of any content, turns a byte of the stream, and
// compares what is read with what the frames say.
func FuzzRecords(f *testing.F) {
	frame := func(n uint32, chunk string) []byte {
		b := make([]byte, frameSize)
		binary.LittleEndian.PutUint32(b, n)
		copy(b[lengthSize:], chunk)
		return b
	}
	f.Add(frame(3, "one"), uint16(0), byte(0))
	f.Add(append(frame(3, "one"), frame(1024, "two")...), uint16(1050), byte(1))
	f.Add(append(frame(3, "one"), frame(1025, "two")...), uint16(0), byte(0))
	f.Add(append(frame(0, ""), frame(1, "x")...), uint16(0), byte(0))
	f.Add([]byte("short"), uint16(3), byte(0x80))
	a, err := derive(fixedEphemeral(1), fixedEphemeral(2).PublicKey().Bytes())
	if err != nil {
		f.Fatal(err)
	}
	b, err := derive(fixedEphemeral(2), fixedEphemeral(1).PublicKey().Bytes())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frames []byte, at uint16, xor byte) {
		sealer := half{aead: a.send.aead}
		var stream, want []byte
		wantMore := true
		for i := 0; i < len(frames); i += frameSize {
			var frame [frameSize]byte
			copy(frame[:], frames[i:])
			n := binary.LittleEndian.Uint32(frame[:])
			turned := xor != 0 && int(at)/sealedSize == i/frameSize
			wantMore = wantMore && !turned && n > 0 && n <= chunkMax
			if wantMore {
				want = append(want, frame[lengthSize:lengthSize+n]...)
			}
			stream = append(stream, sealFrame(&sealer, n, frame[lengthSize:])...)
		}
		if int(at) < len(stream) {
			stream[at] ^= xor
		}
		got, err := readStream(half{aead: b.recv.aead}, stream)
		if !bytes.Equal(got, want) {
			t.Errorf("read %x, want %x", got, want)
		}
		if (err == nil) != wantMore {
			t.Errorf("the stream ended with %v, want an error: %v", err, !wantMore)
		}
	})
}

func fixedEphemeral(n byte) *ecdh.PrivateKey {
	key, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{n}, keySize))
	if err != nil {
		panic(err)
	}
	return key
}

func fixedIdentity(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}
