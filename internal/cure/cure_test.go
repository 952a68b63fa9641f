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
