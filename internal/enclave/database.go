package enclave

import (
	"context"
	"errors"
	"fmt"

	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// called returns what a database is called for people.
func called(etcd, table bool) string {
	switch {
	case etcd:
		return "etcd"
	case table:
		return "DynamoDB"
	}
	return "no database"
}

// fits refuses what a host gives for another database than the policy names, and nothing for
// the one that it names.
func (e *enclave) fits(etcd *hostlink.BootEtcd, table *hostlink.BootDynamoDB) error {
	p := e.c.Policy
	want, given := called(p.Etcd.Named(), p.DynamoDB.Named()), called(etcd != nil, table != nil)
	switch {
	case etcd != nil && table != nil:
		return errors.New("the host names two databases for the marks")
	case given == want:
		return nil
	case !p.Shared():
		return &curedError{fmt.Errorf("the host has the marks in %s, and the measured policy names no database", given), e.c.Cures.Rebuild}
	}
	return fmt.Errorf("the measured policy has the marks in %s, and the host names %s", want, given)
}

// takeDatabase takes over what a boot says of the database of the policy.
func (e *enclave) takeDatabase(ctx context.Context, b *hostlink.Boot) error {
	if err := e.fits(b.Etcd, b.DynamoDB); err != nil {
		return err
	}
	switch {
	case b.Etcd != nil:
		return e.takeMembers(ctx, b.Etcd, b.Credentials)
	case b.DynamoDB != nil:
		e.takeTable(b.DynamoDB)
	}
	return nil
}

// recordLabel is what the MAC of the records in a database is derived under.
const recordLabel = "shared record 1"

// shared returns a mark in the database of the policy, with a floor.
func (e *enclave) shared(chainID string, key *soft.Key, db database, floor watermark.Store) (c sharedmark.Config, err error) {
	mac, err := key.Derive(recordLabel)
	if err != nil {
		return c, err
	}
	id := stateID(chainID, key)
	engine, err := db.engine(e, id)
	return sharedmark.Config{ID: id, Engine: engine, Floor: floor, MAC: &mac}, err
}

// needsDatabase refuses what only an image is asked for whose policy has the marks in a
// database.
func (e *enclave) needsDatabase() error {
	if !e.c.Policy.Shared() {
		return &curedError{errors.New("the measured policy names no database"), e.c.Cures.Rebuild}
	}
	return nil
}
