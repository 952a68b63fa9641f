package dynamostore

import (
	"context"
	"encoding/json"
	"fmt"

	"privyseal/internal/awsjson"
	"privyseal/internal/sharedmark"
)

// table is what DescribeTable says. Fields that are not here are ignored: AWS adds some.
type table struct {
	TableName            string
	TableId              string
	TableArn             string
	TableStatus          string
	KeySchema            []struct{ AttributeName, KeyType string }
	AttributeDefinitions []struct{ AttributeName, AttributeType string }

	// Any of these says that the table has replicas in other regions.
	Replicas               []json.RawMessage
	GlobalTableVersion     string
	MultiRegionConsistency string
	GlobalTableWitnesses   []json.RawMessage
	// Replicas of the first version of global tables (2017.11.29) do not show at all, but
	// AWS has none without a stream.
	StreamSpecification *struct{ StreamEnabled bool }

	RestoreSummary *struct {
		RestoreInProgress bool
		SourceTableArn    string
	}
	DeletionProtectionEnabled bool
}

func describe(ctx context.Context, e *client) (t table, err error) {
	var a struct{ Table table }
	err = e.call(ctx, "DescribeTable", tableRequest{e.c.Table}, &a)
	return a.Table, err
}

// judge returns why no mark can be in a table, an [sharedmark.ErrRefused].
func (t *table) judge(c Config) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: table %s of %s %w", sharedmark.ErrRefused, c.Table, c.Region, fmt.Errorf(format, args...))
	}
	switch {
	case t.TableName != c.Table || !isID(t.TableId):
		return refuse("is described as %q, with the TableId %q", awsjson.Printable(t.TableName, 255), awsjson.Printable(t.TableId, 64))
	case t.TableStatus != "ACTIVE" && t.TableStatus != "UPDATING":
		return refuse("is %s", awsjson.Printable(t.TableStatus, 60))
	case len(t.Replicas) > 0 || t.GlobalTableVersion != "" || t.MultiRegionConsistency != "" || len(t.GlobalTableWitnesses) > 0:
		return refuse("is a global table: what is written in one region is not yet in the others, and two signers would sign; take a table without replicas")
	case t.StreamSpecification != nil && t.StreamSpecification.StreamEnabled:
		return refuse("has a stream, and may have replicas in other regions that its description does not show (global tables of version 2017.11.29); take a table without a stream")
	case t.RestoreSummary != nil && t.RestoreSummary.RestoreInProgress:
		return refuse("is still being restored")
	case len(t.KeySchema) != 1 || t.KeySchema[0].AttributeName != keyName || t.KeySchema[0].KeyType != "HASH" || !t.hasText(keyName):
		return refuse("has another key: it has to have the partition key %q of type S, and no sort key", keyName)
	case c.TableID != "" && c.TableID != t.TableId:
		return refuse("has the TableId %s, and the config says %s: %w", t.TableId, c.TableID, ErrOtherTable)
	}
	return nil
}

// hasText reports whether an attribute of the key is a string.
func (t *table) hasText(name string) bool {
	for _, d := range t.AttributeDefinitions {
		if d.AttributeName == name {
			return d.AttributeType == "S"
		}
	}
	return false
}
