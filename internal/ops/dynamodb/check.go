package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"privyseal/internal/dynamostore"
	"privyseal/internal/provider"
)

// slowTrip is more than a region nearby needs for a read.
const slowTrip = 100 * time.Millisecond

// check adds rows about each table of the config.
func check(ctx context.Context, r *provider.Report) {
	tables := r.Config.Tables[name]
	for _, n := range slices.Sorted(maps.Keys(tables)) {
		c := checked{Report: r, table: tables[n].(*table), line: r.Config.Line(name, n), name: name + " " + n}
		c.all(ctx)
	}
}

// checked is a table that is looked at.
type checked struct {
	*provider.Report
	*table
	line int
	name string
}

func (c checked) add(v provider.Verdict, next, format string, args ...any) {
	c.Add(v, c.line, c.name, fmt.Sprintf(format, args...), next)
}

func (c checked) all(ctx context.Context) {
	seen, err := c.look(ctx)
	if errors.Is(err, dynamostore.ErrOtherTable) {
		c.add(provider.Bad, "what to do is in "+page+", \"The table was restored\"", "%v", err)
		return
	}
	if err != nil {
		c.add(provider.Bad, "", "%v", c.explain(err))
		return
	}
	for _, denied := range seen.Denied {
		c.add(provider.Bad, fmt.Sprintf("the role of this host needs dynamodb:%s for this table: %s has the policy", denied.Op, page), "%v", denied)
	}
	if len(seen.Denied) == 0 {
		c.answers(seen)
	}
	if c.TableID == "" && seen.ID != "" {
		c.add(provider.Unsure, "add "+pin(seen.ID)+" to the config", "the config does not say which table of this name it is: a host that joins later could be given a restored one")
	}
	if !seen.Protected && seen.ID != "" {
		c.add(provider.Unsure, fmt.Sprintf("`aws dynamodb update-table --region %s --table-name %s --deletion-protection-enabled`", c.Region, c.Table), "the table can be deleted by one wrong command; every signer would end")
	}
}

// answers adds a row about a table that this role may read and write.
func (c checked) answers(seen dynamostore.Seen) {
	took := seen.Took.Round(100 * time.Microsecond)
	switch {
	case seen.Took > c.Try.Duration:
		c.add(provider.Bad, "take a region nearby, or raise `try` in the config", "table %s of %s answers in %v, and `try` is %v", c.Table, c.Region, took, c.Try.Duration)
	case seen.Took > slowTrip:
		c.add(provider.Unsure, "", "table %s of %s answers in %v; a region nearby is faster", c.Table, c.Region, took)
	default:
		c.add(provider.Good, "", "table %s of %s answers in %v, and this role may read and write it", c.Table, c.Region, took)
	}
}
