package sgx

import (
	"strings"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/provider"
	"privyseal/internal/sgx/sgxtest"
)

// check says when collateral ends, a week before it does.
func TestCheckCollateral(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name  string
		made  time.Duration // ago
		level provider.Verdict
		says  string
	}{
		{"new", 0, provider.Good, "is good until "},
		{"of last month", 26 * day, provider.Unsure, "is good until "},
		{"of the month before", 60 * day, provider.Unsure, "its collateral is of no use"},
	} {
		w := newTestWorld(t)
		intel, err := sgxtest.New(time.Now().Add(-c.made))
		if err != nil {
			t.Fatal(err)
		}
		collateral, err := intel.Collateral()
		if err != nil {
			t.Fatal(err)
		}
		w.write("platform.json", collateral)
		w.policy.AttestationRoot = string(intel.RootPEM())
		data, err := w.policy.Encode()
		if err != nil {
			t.Fatal(err)
		}
		w.write("policy.json", data)
		r := &provider.Report{Config: &config.Config{Tables: Tables(map[string]Enclave{"main": w.config})}}
		checkEnclave(r, "main")
		found := false
		for _, row := range r.Rows {
			if strings.Contains(row.Text, "collateral") {
				found = row.Verdict == c.level && strings.Contains(row.Text, c.says) && (row.Verdict == provider.Good || strings.Contains(row.Cure, "--refresh"))
			}
		}
		if !found {
			t.Errorf("%s: %+v", c.name, r.Rows)
		}
	}
}
