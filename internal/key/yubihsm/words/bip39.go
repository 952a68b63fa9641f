package words

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"privyseal/internal/spelling"
)

// english is the list of BIP 39: 2048 words in the order of the alphabet, one a line.
//
//go:embed bip39-english.txt
var english string

// list returns the words of english.
var list = sync.OnceValue(func() []string { return strings.Fields(english) })

// Count is how many words there are.
const Count = 24

const (
	wordBits = 11 // that a word stands for
	maxText  = 4 << 10
)

// errChecksum says that all words are in the list, but do not belong together.
var errChecksum = errors.New("the checksum of the 24 words is wrong: a word is another one of the list, or two words are in each other's place")

// UnknownError is a word that is not in the list.
type UnknownError struct {
	Number int // from 1 to 24
	// nearest is the word of the list that is most like it.
	nearest string
}

// Error names the number alone: what was typed is secret, but for the typing error.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("word %d of %d is not in the list of words (BIP 39, English)", e.Number, Count)
}

// Nearest returns the word of the list that is most like the one that was typed. It is for
// the eyes of the person at the terminal, since it may be the secret word.
func (e *UnknownError) Nearest() string { return e.nearest }

// Format prints what Error returns, whatever the verb.
func (e *UnknownError) Format(f fmt.State, _ rune) { io.WriteString(f, e.Error()) }

// Parse reads 24 words with white space between them, in lower case or capitals. The error
// for a word that is not in the list is an [*UnknownError].
func Parse(text []byte) (Words, error) {
	if len(text) > maxText {
		return Words{}, fmt.Errorf("%d bytes are not %d words", len(text), Count)
	}
	typed := bytes.Fields(text)
	if len(typed) != Count {
		return Words{}, fmt.Errorf("%d words are needed, and these are %d", Count, len(typed))
	}
	indexes := make([]int, Count)
	defer clear(indexes)
	for i, t := range typed {
		word := bytes.ToLower(t)
		n, found := slices.BinarySearch(list(), string(word))
		if !found {
			return Words{}, &UnknownError{i + 1, nearest(string(word))}
		}
		indexes[i] = n
		clear(word)
	}
	packed := pack(indexes)
	if packed[entropySize] != checksum(packed[:entropySize]) {
		clear(packed)
		return Words{}, errChecksum
	}
	return hide(packed[:entropySize:entropySize]), nil
}

// Listed reports whether a word is in the list, in lower case or capitals.
func Listed(word []byte) bool {
	lower := bytes.ToLower(word)
	defer clear(lower)
	_, found := slices.BinarySearch(list(), string(lower))
	return found
}

// Text returns the words in lower case, with one space between them. It is the password of
// the role admin.
func (w Words) Text() ([]byte, error) {
	entropy, err := w.reveal()
	if err != nil {
		return nil, err
	}
	return spell(entropy), nil
}

// checksum returns the byte that follows the entropy.
func checksum(entropy []byte) byte { return sha256.Sum256(entropy)[0] }

// pack puts indexes of 11 bits one after the other.
func pack(indexes []int) []byte {
	out := make([]byte, Count*wordBits/8)
	for i, n := range indexes {
		for bit := range wordBits {
			at := i*wordBits + bit
			out[at/8] |= byte(n>>(wordBits-1-bit)&1) << (7 - at%8)
		}
	}
	return out
}

// spell returns the words of 32 bytes of entropy.
func spell(entropy []byte) []byte {
	packed := append(append(make([]byte, 0, entropySize+1), entropy...), checksum(entropy))
	defer clear(packed)
	text := make([]byte, 0, 9*Count) // a word has up to 8 letters
	for i := range Count {
		n := 0
		for at := i * wordBits; at < (i+1)*wordBits; at++ {
			n = n<<1 | int(packed[at/8]>>(7-at%8)&1)
		}
		if i > 0 {
			text = append(text, ' ')
		}
		text = append(text, list()[n]...)
	}
	return text
}

// nearest returns the word of the list that is fewest typing errors away: a letter that is
// another one, is missing or is too much.
func nearest(word string) string {
	word = word[:min(len(word), 2*len("scissors"))]
	return slices.MinFunc(list(), func(a, b string) int { return spelling.Distance(word, a) - spelling.Distance(word, b) })
}
