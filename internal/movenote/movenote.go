// Package movenote is the note that the state of a chain is on its way from one store of
// this host to another one.
//
// A move ends the state in the one store before it makes it in the other. What is left where
// a move was cut off in between looks like a state that was handed to another host, and must
// not be brought back as one. So a note says durably, before anything ends, where the state
// goes: with it the move can be repeated, and without it an ended state is somebody else's.
package movenote

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"privyseal/internal/durable"
	"privyseal/internal/regular"
	"privyseal/internal/strictjson"
	"privyseal/internal/watermark"
)

// Note says whose state goes where. It is one line of JSON, in a file beside the path that a
// chain has as its state.
type Note struct {
	ChainID string `json:"chain_id"`
	KeyID   string `json:"key_id"` // watermark.ID.Key in hex
	// Store, and its table [TABLE.NAME] if it has some, are as the chain is to name them.
	Store string `json:"store"`
	Table string `json:"table,omitempty"`
	Name  string `json:"name,omitempty"`
}

// Of returns the note of a state that goes to a store.
func Of(id watermark.ID, store, table, name string) Note {
	return Note{id.ChainID, hex.EncodeToString(id.Key[:]), store, table, name}
}

// Words are the words after `privyseal state move` that repeat the move.
func (n Note) Words() []string {
	words := []string{"--to", n.Store}
	if n.Table != "" {
		words = append(words, "--"+n.Table, n.Name)
	}
	return words
}

// maxNote bounds a note in bytes.
const maxNote = 4 << 10

// pathOf returns where the note of a state lies.
func pathOf(state string) string { return state + ".moving" }

// parse reads a note. What is not one was cut off itself, and so nothing has ended yet.
func parse(text []byte) (n Note, found bool) {
	err := strictjson.Decode(text, &n)
	return n, err == nil && n.Store != ""
}

// Read returns the note of a state, for who only looks.
func Read(state string) (Note, bool) { return readAt(pathOf(state)) }

// movedOf returns where it lies that the last move was done.
func movedOf(state string) string { return state + ".moved" }

// Moved returns where the state of a chain went by its last move that was done. What is left
// of it in any other store of this host has ended for that, and not for another host.
func Moved(state string) (Note, bool) { return readAt(movedOf(state)) }

func readAt(path string) (Note, bool) {
	text, _, err := regular.ReadOurs(path, maxNote)
	if err != nil {
		return Note{}, false
	}
	return parse(text)
}

// Leads reports whether the note is of another store, or table, than a chain names.
func (n Note) Leads(store, name string) bool { return n.Store != store || n.Name != name }

// Held is the note of a state while a command has it: no other command then ends or moves
// that state.
type Held struct {
	state   string
	file    *os.File
	removed bool
}

// Hold locks the note of a state, whether there is one or not: durable.ErrLocked.
func Hold(state string) (*Held, error) {
	f, err := durable.Lock(pathOf(state))
	if err != nil {
		return nil, err
	}
	return &Held{state: state, file: f}, nil
}

// Note returns the note, if there is one.
func (h *Held) Note() (Note, bool) {
	text, err := io.ReadAll(io.NewSectionReader(h.file, 0, maxNote))
	if err != nil {
		return Note{}, false
	}
	return parse(text)
}

// Write makes the note, durably.
func (h *Held) Write(n Note) error {
	text, err := json.Marshal(n)
	if err == nil {
		err = h.file.Truncate(0)
	}
	if err == nil {
		_, err = h.file.WriteAt(append(text, '\n'), 0)
	}
	if err == nil {
		err = h.file.Sync()
	}
	if err == nil {
		err = durable.SyncFolder(filepath.Dir(h.file.Name()))
	}
	return err
}

// Done notes durably that the move was done, and removes the note of it.
func (h *Held) Done(n Note) error {
	text, err := json.Marshal(n)
	if err == nil {
		err = durable.Replace(movedOf(h.state), append(text, '\n'), nil)
	}
	if err != nil {
		return err
	}
	return h.Remove()
}

// Remove removes the note, durably.
func (h *Held) Remove() error {
	if err := h.file.Truncate(0); err != nil {
		return err
	}
	if err := os.Remove(h.file.Name()); err != nil {
		return err
	}
	h.removed = true
	return durable.SyncFolder(filepath.Dir(h.file.Name()))
}

// Release lets go of the note. One that was written and not removed stays.
func (h *Held) Release() {
	if _, found := h.Note(); !found && !h.removed {
		os.Remove(h.file.Name())
	}
	h.file.Close()
}
