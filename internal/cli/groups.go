package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// group is the annotation of a flag that is not for all uses of its command: its group's
// title.
const group = "privyseal_group"

// Grouped has add add flags to a command, whose help shows them below a title of their own,
// as in "With --provider nitro". It returns their names.
func Grouped(cmd *cobra.Command, title string, add func()) (names []string) {
	known := map[string]bool{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	add()
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !known[f.Name] {
			names = append(names, f.Name)
		}
	})
	for _, name := range names {
		cobra.CheckErr(cmd.Flags().SetAnnotation(name, group, []string{title}))
	}
	cmd.SetUsageFunc(groupedUsage)
	return names
}

// Shared adds flags to a command below a title, as [Grouped] does, of which some may be there
// already: such a flag has one text in the help, which is that of the first, and sets all. It
// returns the names of all.
func Shared(cmd *cobra.Command, title string, flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(f *pflag.Flag) {
		names = append(names, f.Name)
		there := cmd.Flags().Lookup(f.Name)
		if there == nil {
			Grouped(cmd, title, func() { cmd.Flags().AddFlag(f) })
			return
		}
		there.Value = &sharedValue{there.Value, f.Value}
		there.Annotations[group] = append(there.Annotations[group], title)
	})
	return names
}

// sharedValue is the value of a flag that several have.
type sharedValue struct {
	pflag.Value
	other pflag.Value
}

// Set implements [pflag.Value].
func (v *sharedValue) Set(text string) error {
	if err := v.Value.Set(text); err != nil {
		return err
	}
	return v.other.Set(text)
}

// FlagGroup are the flags of a command that stand together in its help.
type FlagGroup struct {
	Title string // "" for those of all its uses
	*pflag.FlagSet
}

// FlagGroups returns flags by group, those for all uses first, then in the order of the
// titles.
func FlagGroups(flags *pflag.FlagSet) []FlagGroup {
	list := []FlagGroup{{"", pflag.NewFlagSet("", pflag.ContinueOnError)}}
	flags.VisitAll(func(f *pflag.Flag) {
		title := strings.ReplaceAll(strings.Join(f.Annotations[group], ", and "), ", and For ", ", and for ")
		i := slices.IndexFunc(list, func(g FlagGroup) bool { return g.Title == title })
		if i < 0 {
			i = len(list)
			list = append(list, FlagGroup{title, pflag.NewFlagSet("", pflag.ContinueOnError)})
		}
		list[i].AddFlag(f)
	})
	slices.SortFunc(list, func(a, b FlagGroup) int { return strings.Compare(a.Title, b.Title) })
	return list
}

// groupedUsage is cobra's usage of a command without sub-commands, with flags by group.
func groupedUsage(cmd *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n", cmd.UseLine())
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	for _, g := range FlagGroups(cmd.LocalFlags()) {
		title := g.Title
		if title == "" {
			title = "Flags"
		}
		fmt.Fprintf(&b, "\n%s:\n%s", title, g.FlagUsages())
	}
	fmt.Fprintf(&b, "\nGlobal Flags:\n%s", cmd.InheritedFlags().FlagUsages())
	_, err := cmd.OutOrStderr().Write([]byte(b.String()))
	return err
}
