package reference

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
)

// Man returns the man pages by name: privyseal.1, one for each command, and
// privyseal.toml.5.
func Man(root *cobra.Command, kinds config.Kinds, tree string) (map[string]string, error) {
	statuses, err := exitStatuses(tree)
	if err != nil {
		return nil, err
	}
	pages := map[string]string{"privyseal.toml.5": tomlPage(kinds)}
	for _, c := range all(root) {
		pages[pageName(c)+".1"] = manPage(c, statuses)
	}
	return pages, nil
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func manPage(c *cobra.Command, statuses []status) string {
	r := newPage(pageName(c), "1", c.Short)
	r.section("SYNOPSIS")
	r.asIs(usage(c))
	r.section("DESCRIPTION")
	if c.HasParent() {
		for _, p := range paragraphs(c) {
			if p.asIs {
				r.asIs(p.text)
			} else {
				r.paragraph(p.text)
			}
		}
	} else {
		r.asIs(helpOf(c))
	}
	r.section("OPTIONS")
	for _, g := range append(cli.FlagGroups(c.LocalNonPersistentFlags()), cli.FlagGroups(c.Root().PersistentFlags())...) {
		if g.Title != "" {
			r.subsection(g.Title)
		}
		g.VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" || f.Name == "version" {
				return
			}
			text := f.Usage
			if def := defaultOf(f); def != "" {
				text += " (default " + def + ")"
			}
			r.item(flag(f), text)
		})
	}
	if c.HasExample() {
		r.section("EXAMPLES")
		r.asIs(dedent(c.Example))
	}
	r.section("EXIT STATUS")
	for _, s := range statuses {
		r.item(s.number, s.meaning)
	}
	r.section("ENVIRONMENT")
	r.item("PRIVYSEAL_HOME", "folder of config, keys and state, without --home")
	r.seeAlso(c)
	return r.String()
}

// helpOf returns what --help prints.
func helpOf(c *cobra.Command) string {
	var b bytes.Buffer
	c.SetOut(&b)
	c.Help()
	return strings.TrimSpace(b.String())
}

func tomlPage(kinds config.Kinds) string {
	r := newPage("privyseal.toml", "5", "config of privyseal")
	r.section("DESCRIPTION")
	r.paragraph(configText)
	list, tables := keyTables(kinds)
	for _, t := range list {
		r.section(t.title)
		for _, key := range tables[t.path] {
			about := key.of + "; " + key.standard
			if key.standard != config.Required {
				about = key.of + strings.TrimSuffix("; default "+key.standard, "; default ")
			}
			r.item(key.name, about+". "+strings.ReplaceAll(key.meaning, "`", ""))
		}
	}
	r.section("SEE ALSO")
	r.paragraph("privyseal(1), privyseal-check(1)")
	return r.String()
}

// page is a man page that is written.
type page struct{ strings.Builder }

func newPage(name, section, short string) *page {
	r := &page{}
	fmt.Fprintf(r, ".\\\" Made from the program's own tree of commands.\n.TH %q %q \"\" \"privyseal\"\n.nh\n.ad l\n", strings.ToUpper(name), section)
	r.section("NAME")
	r.WriteString(roff(name) + ` \- ` + roff(short) + "\n")
	return r
}

func (r *page) section(title string) { fmt.Fprintf(r, ".SH \"%s\"\n", roff(title)) }

func (r *page) subsection(title string) { fmt.Fprintf(r, ".SS \"%s\"\n", roff(title)) }

func (r *page) paragraph(text string) { r.WriteString(".PP\n" + roff(text) + "\n") }

func (r *page) asIs(text string) { r.WriteString(".PP\n.nf\n" + roff(text) + "\n.fi\n") }

func (r *page) item(name, text string) {
	word, rest, _ := strings.Cut(name, " ")
	r.WriteString(".TP\n" + strings.TrimSpace(`\fB`+roff(word)+`\fR `+roff(rest)) + "\n" + roff(text) + "\n")
}

// seeAlso names the pages above and below.
func (r *page) seeAlso(c *cobra.Command) {
	names := []string{"privyseal.toml(5)"}
	if c.HasParent() {
		names = append(names, pageName(c.Parent())+"(1)")
	}
	for _, below := range all(c)[1:] {
		if below.Parent() == c {
			names = append(names, pageName(below)+"(1)")
		}
	}
	r.section("SEE ALSO")
	r.paragraph(strings.Join(names, ", "))
}

// roff returns text as it is: no line of it is a request, and a hyphen is one that can be
// typed.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
