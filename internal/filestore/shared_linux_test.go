package filestore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/watermark"
)

// sharing is the floor of a shared mark on the host of a file, and what that knows meanwhile.
func sharing(t *testing.T, beside Config) (Config, *Host) {
	t.Helper()
	c := Config{Path: beside.Path + ".floor", ID: watermark.ID{ChainID: testID.ChainID, Key: [32]byte{9}}, Host: beside.Host}
	if err := Create(c, watermark.Saved{}); err != nil && !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	s := open(t, c)
	h, err := s.Host(t.Context(), testID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(); s.Close() })
	return c, h
}

// What a host shares is known to its files, and what it has signed with those to who shares; none
// lowers what the other has left there.
func TestHostOfASharedMark(t *testing.T) {
	c := onHost(t, true, at(5))
	signs(t, c, at(6), false)
	floor, h := sharing(t, c)
	saved := func(height int64) watermark.Saved { return watermark.Saved{Mark: at(height), Time: time.Now()} }
	if got := h.Highest(); !got.Equal(at(6)) {
		t.Errorf("the highest is %v", got)
	}
	for height, want := range map[int64]string{5: "it is at 5/0/prevote; since it was booted this host has signed up to 6/0/prevote with this key, with " + c.Path + ", on ", 6: "", 7: ""} {
		why := h.Refuses(at(height))
		looked, highest := Beside(floor, testID, at(height))
		if !strings.HasPrefix(why, want) || (why == "") != (want == "") || looked != why || !highest.Equal(at(6)) {
			t.Errorf("at %d: %q, %q, %v", height, why, looked, highest)
		}
	}
	if err := h.NotBelow(at(5)); !errors.Is(err, ErrBelow) || !strings.Contains(err.Error(), "with "+c.Path+")") {
		t.Error(err)
	}
	if err := h.NotBelow(at(6)); err != nil {
		t.Error(err)
	}
	remembered := func() watermark.Mark { return Remembered(c) }
	h.Note(saved(5), false)
	h.Take(saved(5), false)
	h.Note(saved(7), true)
	if got := remembered(); !got.Equal(at(6)) {
		t.Errorf("the host remembers %v", got)
	}
	h.Note(saved(7), false)
	if got := remembered(); !got.Equal(at(7)) {
		t.Errorf("the host remembers %v", got)
	}
	if err := loadErr(c); !errors.Is(err, ErrTwin) || !strings.Contains(err.Error(), "("+floor.Path+")") {
		t.Errorf("beside one that runs: %v", err)
	}
	h.Close()
	if err := loadErr(c); !errors.Is(err, ErrRestored) || !strings.Contains(err.Error(), "with "+floor.Path+", on ") {
		t.Errorf("after it: %v", err)
	}
}

// A state that was exported is exported again, but not where another file has gone on; and then
// the host remembers that one.
func TestExportIsOutdone(t *testing.T) {
	c := onHost(t, true, at(5))
	exports := func() error {
		_, err := Export(c)
		return err
	}
	if err := exports(); err != nil {
		t.Fatal(err)
	}
	heir := c
	heir.Path += ".heir"
	if err := Create(heir, watermark.Saved{Mark: at(5)}); err != nil {
		t.Fatal(err)
	}
	signs(t, heir, at(6), false)
	if err := exports(); !errors.Is(err, ErrRestored) || !strings.Contains(err.Error(), "with "+heir.Path+", on ") {
		t.Errorf("exported again: %v", err)
	}
	if got := Remembered(c); !got.Equal(at(6)) {
		t.Errorf("the host remembers %v", got)
	}
	loaded(t, heir)

	// One that hosts share is what a move of this very state has made.
	_, h := sharing(t, c)
	h.Take(watermark.Saved{Mark: at(6), Time: time.Now()}, false)
	h.Close()
	if err := exports(); err != nil {
		t.Errorf("exported again: %v", err)
	}
	if why := loadErr(heir); !errors.Is(why, ErrRestored) {
		t.Errorf("what hosts share is forgotten: %v", why)
	}
}

// What stands in the place of a path is shown if it is one.
func TestHostNamesAPath(t *testing.T) {
	c := onHost(t, true, at(5))
	loaded(t, c)
	name := filepath.Join(c.Host[0], hostName(c.ID))
	record, err := os.ReadFile(name)
	if err != nil || len(record) != recordSize+pathSize {
		t.Fatalf("%d bytes, %v", len(record), err)
	}
	other := c
	other.Path += ".2"
	for path, want := range map[string]string{
		"/a/b": "with /a/b)", "a/b": "with another file)", "": "with another file)", "/a\x1b[2J": "with another file)",
		"/\xff": "with another file)", "/a\x00b": "with another file)", "/" + strings.Repeat("x", pathSize-1): "x)",
	} {
		if err := os.WriteFile(name, append(record[:recordSize:recordSize], path...), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Create(other, watermark.Saved{}); !errors.Is(err, ErrBelow) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", path, err)
		}
	}
	// One that is too long for the file is not cut off.
	long := c
	long.Path = filepath.Join(filepath.Dir(c.Path), strings.Repeat("x", 250), strings.Repeat("x", 250), "state")
	if err := Create(long, watermark.Saved{Mark: at(6)}); err != nil {
		t.Fatal(err)
	}
	loaded(t, long)
	if err := Create(other, watermark.Saved{}); !strings.Contains(err.Error(), "with another file)") {
		t.Error(err)
	}
}
