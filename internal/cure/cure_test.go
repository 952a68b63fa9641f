package cure

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestCure(t *testing.T) {
	err := fmt.Errorf("chain a: %w", Add(fmt.Errorf("there is no key: %w", fs.ErrNotExist), "make it with %s", Command("privyseal", "key generate", "it's")))
	failed, next := Split(err.Error())
	if failed != "chain a: there is no key: file does not exist" || next != "make it with `privyseal 'key generate' 'it'\\''s'`" {
		t.Errorf("%q, %q", failed, next)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the cause is gone")
	}
	if Add(nil, "x") != nil {
		t.Error("no failure, and a cure")
	}
	if failed, next := Split("plain"); failed != "plain" || next != "" {
		t.Errorf("%q, %q", failed, next)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 blocks", 1: "1 block", 2: "2 blocks", 11: "11 blocks"} {
		if got := Count(n, "block"); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// What is put in front of a cure stays in front of it, and a cure is put after all of it.
func TestCureOfACure(t *testing.T) {
	err := fmt.Errorf("chain a: %w", Add(errors.New("no key"), "make one"))
	if got := err.Error(); got != "chain a: no key\nmake one" {
		t.Errorf("%q", got)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Next != "make one" || e.Err.Error() != "no key" {
		t.Errorf("%+v", e)
	}
	if failed, next := Split("a\nb\nc"); failed != "a" || next != "b\nc" {
		t.Errorf("%q, %q", failed, next)
	}
	if got := Command(); got != "``" {
		t.Error(got)
	}
}
