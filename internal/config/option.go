package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"privyseal/internal/secret"
)

// Option is one key of a provider's or store's tables, declared once: what may stand in the file, what
// its absence means, its line there, its flag and its place in doc/reference follow.
type Option[T any] struct {
	// Name is the key. One in a table below has a name as in "credentials.session_token".
	Name string
	// Of returns where the value is: a *string, *[]string, *bool, *int, *uint32, *Duration
	// or *secret.Text. The zero value is an absent one, and a list has neither Standard nor
	// Example.
	Of func(*T) any
	// Standard is what an absent key means, Example what its line has then, which is a
	// comment; "" for no such line.
	Standard, Example string
	Required          bool
	Path              bool // it is the path of a file or folder
	FileOnly          bool // it has no flag
	// Comment stands in the file, in the reference, and in the help of the flag; More in the
	// reference alone.
	Comment, More string
}

// Options are the keys of a provider's or store's tables. A [Section] of them has its methods from here.
type Options[T any] []Option[T]

// Keys returns the keys as a [Kind] has them.
func (o Options[T]) Keys() (keys []Key) {
	var zero T
	for _, op := range o {
		if above, _, below := strings.Cut(op.Name, "."); below && !slices.ContainsFunc(keys, func(k Key) bool { return k.Name == above }) {
			keys = append(keys, Key{Name: above, Type: "a table"})
		}
		k := Key{Name: op.Name, Comment: op.Comment, More: op.More, Default: op.Standard}
		switch op.Of(&zero).(type) {
		case *bool:
			k.Type, k.Default = "true or false", "false"
		case *int, *uint32:
			k.Type = "a number"
		case *Duration:
			k.Type, k.Default = "a duration", quoted(op.Standard)
		case *[]string:
			k.Type = "strings"
		default:
			k.Type, k.Default = "a string", quoted(op.Standard)
		}
		if op.Required {
			k.Default = Required
		}
		keys = append(keys, k)
		if k.Type == "strings" {
			keys = append(keys, Key{Name: k.Name + ".*", Type: "a string"})
		}
	}
	return keys
}

func quoted(text string) string {
	if text == "" {
		return ""
	}
	return Quote(text)
}

// Decode fills t with the values of a table, which are of the right types.
func (o Options[T]) Decode(t *T, values map[string]any, fail func(key, wrong string)) {
	for _, op := range o {
		name, from := op.Name, values
		if above, below, found := strings.Cut(op.Name, "."); found {
			from, _ = values[above].(map[string]any)
			name = below
		}
		value, written := from[name]
		if !written {
			continue
		}
		if list, ok := op.Of(t).(*[]string); ok {
			for _, text := range value.([]any) {
				*list = append(*list, fmt.Sprint(text))
			}
			continue
		}
		if err := set(op.Of(t), fmt.Sprint(value)); err != nil {
			fail(op.Name, err.Error())
		}
	}
}

// Fill puts what absent keys mean in their place.
func (o Options[T]) Fill(t *T, written func(key string) bool) {
	for _, op := range o {
		if op.Standard != "" && !written(op.Name) {
			if err := set(op.Of(t), op.Standard); err != nil {
				panic(op.Name + ": " + err.Error()) // a test fills each
			}
		}
	}
}

// Check finds keys that are missing or empty, and reports whether there are none.
func (o Options[T]) Check(t *T, written func(key string) bool, fail func(key, wrong string)) (ok bool) {
	ok = true
	for _, op := range o {
		above, _, below := strings.Cut(op.Name, ".")
		wrong := ""
		switch {
		case op.Required && !written(op.Name) && (!below || written(above)):
			wrong = "is missing"
			if op.Comment != "" {
				wrong += ": " + op.Comment
			}
		case isText(op.Of(t)) && written(op.Name) && op.Text(t) == "":
			wrong = "is empty"
		default:
			continue
		}
		fail(op.Name, wrong)
		ok = false
	}
	return ok
}

// Secret returns the key of a secret that the table has.
func (o Options[T]) Secret(t *T) (key string, secret bool) {
	for _, op := range o {
		if isSecret(op.Of(t)) && op.Text(t) != "" {
			above, _, _ := strings.Cut(op.Name, ".")
			return above, true
		}
	}
	return "", false
}

// Render writes the keys.
func (o Options[T]) Render(t *T, w *Lines) {
	below := ""
	for _, op := range o {
		value := op.Text(t)
		set := value != "" && value != op.Standard
		if !set {
			value = op.Example
		}
		if value == "" {
			continue
		}
		name := op.Name
		if above, rest, found := strings.Cut(op.Name, "."); found {
			if name = rest; above != below {
				w.Below(above)
				below = above
			}
		}
		switch op.Of(t).(type) {
		case *string, *Duration, *secret.Text:
			value = Quote(value)
		}
		w.Line(set, name, value)
	}
}

// Paths has f change all paths that are set.
func (o Options[T]) Paths(t *T, f func(path string) (string, error)) error {
	for _, op := range o {
		path, ok := op.Of(t).(*string)
		if !ok || !op.Path || *path == "" {
			continue
		}
		changed, err := f(*path)
		if err != nil {
			return err
		}
		*path = changed
	}
	return nil
}

// Text returns the value as text, "" for the zero value; a list as the file has it.
func (op Option[T]) Text(t *T) string {
	text := ""
	switch v := op.Of(t).(type) {
	case *string:
		return *v
	case *[]string:
		if len(*v) > 0 {
			text = quotedList(*v)
		}
	case *secret.Text:
		return v.Reveal()
	case *Duration:
		text = v.String()
	case *bool:
		text = strconv.FormatBool(*v)
	case *int:
		text = strconv.Itoa(*v)
	case *uint32:
		text = strconv.FormatUint(uint64(*v), 10)
	}
	if text == "0" || text == "0s" || text == "false" {
		return ""
	}
	return text
}

// quotedList returns a list as the file has it.
func quotedList(list []string) string {
	texts := make([]string, len(list))
	for i, text := range list {
		texts[i] = Quote(text)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func isText(value any) bool {
	switch value.(type) {
	case *string, *[]string, *secret.Text:
		return true
	}
	return false
}

func isSecret(value any) bool {
	_, ok := value.(*secret.Text)
	return ok
}

// set gives a value what a text says, which is of the right type.
func set(value any, text string) (err error) {
	switch v := value.(type) {
	case *string:
		*v = text
	case *secret.Text:
		*v = secret.New(text)
	case *bool:
		*v = text == "true"
	case *Duration:
		err = v.UnmarshalText([]byte(text))
	case *int:
		if *v, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("is not from %d to %d", math.MinInt, math.MaxInt)
		}
	case *uint32:
		var n uint64
		if n, err = strconv.ParseUint(text, 10, 32); err != nil {
			err = fmt.Errorf("is not from 0 to %d", uint32(math.MaxUint32))
		}
		*v = uint32(n)
	}
	return err
}
