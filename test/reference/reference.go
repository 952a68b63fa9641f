// Package reference writes the pages of doc/reference and the man pages from what the
// program declares: its tree of commands, the keys of its config, its metrics, the
// reasons for a refusal and the exit statuses. No program links it; a test of
// cmd/privyseal runs it, and says which page is stale.
package reference

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
)

// Command makes the pages again.
const Command = "go test ./cmd/privyseal -run TestReference -update-reference"

// head begins a page.
func head(title, text string) string {
	return "<!-- Made by `" + Command + "`; a change here is lost. -->\n\n# " + title + "\n\n" + text + "\n"
}

// Pages returns the pages of doc/reference by name. tree is the root of the repository.
func Pages(root *cobra.Command, kinds config.Kinds, tree string) (map[string]string, error) {
	statuses, err := exitStatuses(tree)
	if err != nil {
		return nil, err
	}
	metrics, err := metrics()
	if err != nil {
		return nil, err
	}
	refusals, err := refusals()
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"commands.md": commands(root, statuses), "config.md": configKeys(kinds), "metrics.md": metrics, "refusals.md": refusals,
	}, nil
}

// status is an exit status.
type status struct{ number, meaning string }

// exitStatuses reads the constants of internal/cli with their comments.
func exitStatuses(tree string) (list []status, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), tree+"/internal/cli/errors.go", nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	for _, d := range f.Decls {
		consts, ok := d.(*ast.GenDecl)
		if !ok || consts.Tok != token.CONST {
			continue
		}
		for _, spec := range consts.Specs {
			v := spec.(*ast.ValueSpec)
			number, ok := v.Values[0].(*ast.BasicLit)
			if meaning := strings.TrimSpace(v.Comment.Text()); ok && meaning != "" {
				list = append(list, status{number.Value, meaning})
			} else {
				return nil, fmt.Errorf("internal/cli: %s has no number or no comment that says what it means", v.Names[0])
			}
		}
	}
	return list, nil
}

// all returns the commands below root, itself first, but for those that cobra brings along.
func all(root *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, all(c)...)
		}
	}
	return list
}

func commands(root *cobra.Command, statuses []status) string {
	var b strings.Builder
	b.WriteString(head("Commands", "Flags of every command:\n\n"+flagTable(root.PersistentFlags())+"\n`privyseal COMMAND --help` prints what this page says of a command.\n"))
	b.WriteString("| command | |\n|---|---|\n")
	list := all(root)[1:]
	for _, c := range list {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), cell(c.Short))
	}
	b.WriteString("\n## Exit status\n\n| status | meaning |\n|---|---|\n")
	for _, s := range statuses {
		fmt.Fprintf(&b, "| %s | %s |\n", s.number, cell(s.meaning))
	}
	b.WriteString("\nGo's own status 2, after a panic or `SIGQUIT`, means a crash; the unit starts it again.\n")
	for _, c := range list {
		command(&b, c)
	}
	return b.String()
}

// command writes the section of one command.
func command(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
	for _, p := range paragraphs(c) {
		if p.asIs {
			fmt.Fprintf(b, "```\n%s\n```\n\n", p.text)
		} else {
			fmt.Fprintf(b, "%s\n\n", strings.ReplaceAll(p.text, "<", "&lt;"))
		}
	}
	fmt.Fprintf(b, "```sh\n%s\n```\n", usage(c))
	if c.HasExample() {
		fmt.Fprintf(b, "\nFor example:\n\n```sh\n%s\n```\n", dedent(c.Example))
	}
	for _, g := range cli.FlagGroups(c.LocalNonPersistentFlags()) {
		table := flagTable(g.FlagSet)
		if g.Title != "" {
			table = g.Title + ":\n\n" + table
		}
		if table != "" {
			b.WriteString("\n" + table)
		}
	}
}

func usage(c *cobra.Command) string {
	if c.HasAvailableSubCommands() {
		return c.CommandPath() + " COMMAND"
	}
	return c.UseLine()
}

// paragraph is a part of a command's text; one that is as it is keeps its lines.
type paragraph struct {
	text string
	asIs bool
}

func paragraphs(c *cobra.Command) (list []paragraph) {
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	for _, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		asIs := strings.HasPrefix(p, " ") || strings.Contains(p, "\n ")
		if asIs {
			p = dedent(p)
		}
		list = append(list, paragraph{p, asIs})
	}
	return list
}

// dedent takes two spaces off the lines that begin with them.
func dedent(text string) string {
	return strings.TrimPrefix(strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n  ", "\n"), "  ")
}

// flagTable returns "" where there are no flags but help.
func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", flag(f), code(defaultOf(f)), cell(f.Usage))
		}
	})
	if b.Len() == 0 {
		return ""
	}
	return "| flag | default | meaning |\n|---|---|---|\n" + b.String()
}

// valueNames are what the values of flags are called, by type.
var valueNames = map[string]string{
	"bool": "", "string": " TEXT", "stringArray": " TEXT", "int": " N", "int64": " N", "uint16": " N", "uint32": " N", "duration": " DURATION",
}

// flag returns how a flag is typed.
func flag(f *pflag.Flag) string {
	value, known := valueNames[f.Value.Type()]
	if !known {
		value = " " + f.Value.Type()
	}
	return "--" + f.Name + value
}

// defaultOf returns "" where the zero value, or the flag's text, says it.
func defaultOf(f *pflag.Flag) string {
	switch f.DefValue {
	case "false", "0", "0s", "[]":
		return ""
	}
	return f.DefValue
}

// keyTable is a table of a config; path is that of its keys.
type keyTable struct{ path, title string }

// keyRow is a key in it.
type keyRow struct{ name, of, standard, meaning string }

// keyTables returns the tables of a config in the order of the page, and their keys by path.
func keyTables(kinds config.Kinds) (list []keyTable, keys map[string][]keyRow) {
	list = []keyTable{{"", "At the top"}, {"log", "[log]"}, {"chain.*", "[[chain]]"}, {"chain.*.node.*", "node = [ { … }, … ] of [[chain]]"}}
	for _, k := range kinds {
		if k.Table == "" {
			continue
		}
		of := "], of provider " + k.Provider
		list = append(list, keyTable{k.Table + ".*", "[" + k.Table + ".NAME" + of})
		for _, key := range k.Keys {
			if key.Type == "a table" {
				list = append(list, keyTable{k.Table + ".*." + key.Name, "[" + k.Table + ".NAME." + key.Name + of})
			}
		}
	}
	keys = map[string][]keyRow{}
	for _, key := range kinds.Keys() {
		cut := strings.LastIndexByte(key.Name, '.')
		path, name := key.Name[:max(0, cut)], key.Name[cut+1:]
		if name != "*" && key.Type != "a table" && key.Type != "tables" {
			keys[path] = append(keys[path], keyRow{name, key.Type, key.Default, meaning(key)})
		}
	}
	return list, keys
}

// meaning returns the comment of the key in the file, and more.
func meaning(k config.Key) string {
	var parts []string
	for _, text := range []string{strings.ReplaceAll(k.Comment, "\n", " "), k.More} {
		if text != "" {
			parts = append(parts, strings.TrimSuffix(text, "."))
		}
	}
	return strings.Join(parts, ". ")
}

const configText = "The config of privyseal, in the home folder. Unknown, duplicate and missing keys are refused, with\ntheir line. Paths are relative to the folder of the file."

func configKeys(kinds config.Kinds) string {
	var b strings.Builder
	b.WriteString(head("privyseal.toml", configText))
	list, keys := keyTables(kinds)
	for _, t := range list {
		fmt.Fprintf(&b, "\n## %s\n\n| key | value | default | meaning |\n|---|---|---|---|\n", t.title)
		for _, key := range keys[t.path] {
			standard := key.standard
			if standard != config.Required {
				standard = code(standard)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", key.name, key.of, standard, cell(key.meaning))
		}
	}
	return b.String()
}

// cell makes a text one cell of a table.
func cell(text string) string {
	return strings.NewReplacer("\n", " ", "|", `\|`, "<", "&lt;").Replace(text)
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
