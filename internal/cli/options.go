package cli

import (
	"strings"

	"github.com/spf13/pflag"

	"privyseal/internal/config"
)

// AddOptions adds a flag for each option that has one, which fills in t; t has every
// default. The names of the flags begin with prefix.
func AddOptions[T any](fl *pflag.FlagSet, prefix string, options config.Options[T], t *T) {
	for _, op := range options {
		if op.FileOnly {
			continue
		}
		name := OptionFlag(prefix, op.Name)
		switch v := op.Of(t).(type) {
		case *string:
			fl.StringVar(v, name, *v, op.Comment)
		case *[]string:
			fl.StringArrayVar(v, name, *v, op.Comment)
		case *bool:
			fl.BoolVar(v, name, *v, op.Comment)
		case *int:
			fl.IntVar(v, name, *v, op.Comment)
		case *uint32:
			fl.Uint32Var(v, name, *v, op.Comment)
		case *config.Duration:
			fl.DurationVar(&v.Duration, name, v.Duration, op.Comment)
		}
	}
}

// OptionFlag returns the name of the flag for a key.
func OptionFlag(prefix, key string) string { return prefix + strings.ReplaceAll(key, "_", "-") }
