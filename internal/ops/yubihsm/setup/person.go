package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm/words"
	"privyseal/internal/terminal"
)

// tries is how often words are asked for.
const tries = 3

// person is who sits at the terminal.
type person struct{ *terminal.Terminal }

// learn shows new words, and returns when they were typed again without a mistake.
func (p *person) learn(ctx context.Context, w words.Words) error {
	text, err := w.Text()
	if err != nil {
		return err
	}
	defer clear(text)
	shown := bytes.Fields(text)
	for try := range tries {
		if err := p.Show(ctx, page(shown)); err != nil {
			return err
		}
		wrong, err := p.repeat(ctx, shown)
		if err != nil || wrong == 0 {
			return err
		}
		if err := p.Say("Word %d is not the one that was shown.", wrong); err != nil {
			return err
		}
		if try < tries-1 {
			if _, err := p.Ask(ctx, "Press Return to see the words again. "); err != nil {
				return err
			}
		}
	}
	return cure.Add(cli.Actf("the words were not typed as they were shown, %d times; nothing on the device has changed, and the words are worth nothing", tries),
		"type the same command again: it shows other words")
}

// page is what the terminal shows of new words.
func page(shown [][]byte) string {
	var b strings.Builder
	b.WriteString("All secrets of the device come from these 24 words. Write them on paper, with\ntheir numbers, and keep them where nobody else reads them: they are not shown\nagain, and stored nowhere.\n\n")
	const columns = 3
	rows := len(shown) / columns
	for row := range rows {
		for column := range columns {
			n := column*rows + row
			fmt.Fprintf(&b, "  %2d  %-10s", n+1, shown[n])
		}
		b.WriteString("\n")
	}
	b.WriteString("\nPress Return when they are written down: then you are asked for them.")
	return b.String()
}

// repeat asks for words that were shown, and returns the number of the first that is wrong, 0
// for none.
func (p *person) repeat(ctx context.Context, shown [][]byte) (wrong int, err error) {
	if err := p.Say("Now type the words from the paper, one or more to a line. They do not show."); err != nil {
		return 0, err
	}
	err = p.each(ctx, func(n int, word []byte) (bool, error) {
		if !bytes.Equal(bytes.ToLower(word), shown[n]) {
			wrong = n + 1
		}
		return wrong == 0, nil
	})
	return wrong, err
}

// remember asks for the words of a device, which have to be in the list and to belong
// together.
func (p *person) remember(ctx context.Context) (w words.Words, err error) {
	if err := p.Say("Type the 24 words, one or more to a line. They do not show."); err != nil {
		return w, err
	}
	for try := range tries {
		var typed []byte
		err = p.each(ctx, func(n int, word []byte) (bool, error) {
			if !words.Listed(word) {
				return true, errAgain
			}
			typed = append(append(typed, word...), ' ')
			return true, nil
		})
		if err != nil {
			clear(typed)
			return w, err
		}
		w, err = words.Parse(typed)
		clear(typed)
		if err == nil || try == tries-1 {
			break
		}
		if err := p.Say("%v. Type all of them again.", err); err != nil {
			return w, err
		}
	}
	return w, err
}

// errAgain asks for a word again.
var errAgain = errors.New("not a word of the list")

// each asks for 24 words, and gives them to f, by their index, until f returns false. With
// errAgain of f, the rest of the line is forgotten, and that word asked for again.
func (p *person) each(ctx context.Context, f func(n int, word []byte) (bool, error)) error {
	return p.Hidden(ctx, func(ask func(string) ([]byte, error)) error {
		for n := 0; n < words.Count; {
			line, err := ask(fmt.Sprintf("Word %d of %d: ", n+1, words.Count))
			if err != nil {
				return err
			}
			n, err = p.take(line, n, f)
			clear(line)
			if err != nil || n < 0 {
				return err
			}
		}
		return nil
	})
}

// take gives the words of a line to f, and returns the index of the next one that is asked
// for, or -1 when f has seen enough.
func (p *person) take(line []byte, n int, f func(n int, word []byte) (bool, error)) (int, error) {
	for _, word := range bytes.Fields(line) {
		if n == words.Count {
			return n, p.Say("There are more than %d words in what you typed; the rest is ignored.", words.Count)
		}
		more, err := f(n, word)
		switch {
		case errors.Is(err, errAgain):
			return n, p.Say("Word %d is not in the list of words (BIP 39, English). Type it again, and go on from there.", n+1)
		case err != nil:
			return n, err
		case !more:
			return -1, nil
		}
		n++
	}
	return n, nil
}

// password asks for the password of the authentication key that opens a device now.
func (p *person) password(ctx context.Context, id uint16) (password []byte, err error) {
	err = p.Hidden(ctx, func(ask func(string) ([]byte, error)) (err error) {
		password, err = ask(fmt.Sprintf("Password of authentication key %d (of 1, the 24 words): ", id))
		return err
	})
	return bytes.TrimSpace(password), err
}
