package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cure"
	"privyseal/internal/spelling"
)

// NewHelp returns `privyseal help`, for which a command that does not exist is
// an error.
func NewHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show help for a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if about.HasSubCommands() {
				if err := NoCommand(about, rest); err != nil {
					return err
				}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// NoEmptyFlags refuses a flag that was given nothing, as by a script's variable that
// is not set: without it the command would mean something else, such as a check that
// checks less.
func NoEmptyFlags(cmd *cobra.Command, _ []string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		list, several := f.Value.(pflag.SliceValue)
		empty := f.Value.String() == "" || several && slices.Contains(list.GetSlice(), "")
		if err == nil && empty {
			err = cure.Add(Usagef("--%s is empty", f.Name), "leave it out, or look at where its value comes from")
		}
	})
	return err
}

func ShowHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// NoCommand refuses the arguments of a command that only has sub-commands.
func NoCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean `" + cmd.CommandPath() + " " + strings.Join(near, "` or `"+cmd.CommandPath()+" ") + "`? "
	}
	return cure.Add(Usagef("unknown command %q", cmd.CommandPath()+" "+args[0]), "%ssee `%s --help`", hint, cmd.CommandPath())
}

// NoSuchCommand refuses a command that does not exist also where --help follows it,
// for which cobra would show the help of what is in front.
func NoSuchCommand(root *cobra.Command, args []string) error {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	cmd, rest, err := root.Find(args)
	if err != nil || !cmd.HasSubCommands() || len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil // cobra's own business
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return nil // Execute says it, with the flag that was probably meant
	}
	return NoCommand(cmd, cmd.Flags().Args())
}

// NewGroup returns a command that only has sub-commands.
func NewGroup(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: NoCommand, RunE: ShowHelp}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(commands...)
	return cmd
}

// Arguments checks how many arguments there are; names says what they are.
func Arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return cure.Add(Usagef("%s is missing", names[len(args)]), "`%s`", cmd.UseLine())
		case len(args) > len(names):
			return cure.Add(Usagef("unexpected argument %q", args[len(names)]), "see `%s --help`", cmd.CommandPath())
		}
		return nil
	}
}

// AtMostOne checks that there is no argument or one.
func AtMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return Arguments(name)(cmd, args)
	}
}

// nearFlags returns the flag that differs least from name, or else those that begin with
// it, if they are few.
func nearFlags(cmd *cobra.Command, name string) (near []string) {
	var all []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		all = append(all, f.Name)
		if strings.HasPrefix(f.Name, name) {
			near = append(near, f.Name)
		}
	})
	if nearest := spelling.Near(name, all); nearest != "" {
		return []string{nearest}
	}
	if len(near) > 3 {
		return nil
	}
	return near
}

// FlagError adds to pflag's message the flag that was probably meant.
func FlagError(cmd *cobra.Command, err error) error {
	hint := ""
	if name, found := strings.CutPrefix(err.Error(), "unknown flag: --"); found {
		if near := nearFlags(cmd, name); len(near) > 0 {
			hint = "did you mean --" + strings.Join(near, " or --") + "? "
		}
	}
	text := err.Error()
	var wrong *pflag.InvalidValueError
	if errors.As(err, &wrong) {
		// pflag's own text ends in that of a parser's.
		f := wrong.GetFlag()
		if why, ours := errors.AsType[UsageError](err); ours {
			text = fmt.Sprintf("--%s: %v", f.Name, why)
		} else {
			text = fmt.Sprintf("--%s %.80q is not %s", f.Name, wrong.GetValue(), cmp.Or(valueNames[f.Value.Type()], "a value"))
		}
	}
	return cure.Add(Usagef("%s", text), "%ssee `%s --help`", hint, cmd.CommandPath())
}

// valueNames says what the types of flags are called.
var valueNames = map[string]string{
	"bool": "true or false", "int": "a number", "int64": "a number", "uint16": "a number from 0 to 65535", "uint32": "a number from 0 to 4294967295",
}
