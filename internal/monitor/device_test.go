package monitor

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/session"
	"privyseal/internal/watermark"
)

// Each device of a chain has its series, which go with the chain.
func TestDeviceMetrics(t *testing.T) {
	m, c := newTestChain("chain-1", "chain-1", watermark.Saved{})
	before := series(t, m)
	c.Devices(func() []Device {
		return []Device{
			{Address: "usb://1", Since: time.Unix(1000, 0), Signatures: 3, Took: 0.33, LogUsed: 12, LogSize: 62, Audited: true, Foreign: 2},
			{Address: "http://hsm:12345", Since: time.Unix(2000, 5e8), Failed: "a reason", Audited: true, Undrained: "a disk"},
		}
	})
	got := map[string]string{}
	for name, value := range series(t, m) {
		if _, was := before[name]; !was {
			got[name] = value
		}
	}
	want := map[string]string{
		`privyseal_device_up{chain_id="chain-1",device="usb://1"}`:                                 "1",
		`privyseal_device_up{chain_id="chain-1",device="http://hsm:12345"}`:                        "0",
		`privyseal_device_changed_timestamp_seconds{chain_id="chain-1",device="usb://1"}`:          "1000",
		`privyseal_device_changed_timestamp_seconds{chain_id="chain-1",device="http://hsm:12345"}`: "2000.5",
		`privyseal_device_signatures_total{chain_id="chain-1",device="usb://1"}`:                   "3",
		`privyseal_device_signatures_total{chain_id="chain-1",device="http://hsm:12345"}`:          "0",
		`privyseal_device_sign_seconds_total{chain_id="chain-1",device="usb://1"}`:                 "0.33",
		`privyseal_device_sign_seconds_total{chain_id="chain-1",device="http://hsm:12345"}`:        "0",
		`privyseal_device_log_entries{chain_id="chain-1",device="usb://1"}`:                        "12",
		`privyseal_device_log_drained{chain_id="chain-1",device="usb://1"}`:                        "1",
		`privyseal_device_log_drained{chain_id="chain-1",device="http://hsm:12345"}`:               "0",
		`privyseal_device_foreign_signatures_total{chain_id="chain-1",device="usb://1"}`:           "2",
		`privyseal_device_foreign_signatures_total{chain_id="chain-1",device="http://hsm:12345"}`:  "0",
		`privyseal_device_log_size{chain_id="chain-1",device="usb://1"}`:                           "62",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m.RemoveChain(c)
	for _, name := range slices.Sorted(maps.Keys(series(t, m))) {
		if strings.Contains(name, "device") {
			t.Errorf("%s is still there", name)
		}
	}
}

// A signer is ready as long as one device of each chain signs.
func TestReadyByDevices(t *testing.T) {
	for name, tt := range map[string]struct {
		devices []Device
		ready   bool
	}{
		"none":           {nil, true},
		"one of two":     {[]Device{{Address: "a", Failed: "x"}, {Address: "b"}}, true},
		"two of two":     {[]Device{{Address: "a", Failed: "x"}, {Address: "b", Failed: "y"}}, false},
		"the only one":   {[]Device{{Address: "a", Failed: "x"}}, false},
		"all of two are": {[]Device{{Address: "a"}, {Address: "b"}}, true},
	} {
		m, c := newTestChain("chain-1", "chain-1", watermark.Saved{})
		c.changed(c.nodes[0], session.Serving, nil)
		if tt.devices != nil {
			c.Devices(func() []Device { return tt.devices })
		}
		code, text := get(t, m.Handler(), "/readyz")
		if m.Snapshot().Ready != tt.ready || (code == http.StatusOK) != tt.ready || strings.Contains(text, "chain-1 no device signs\n") == tt.ready {
			t.Errorf("%s: %d %s", name, code, text)
		}
		if s := m.Snapshot().Chains[0]; !s.Ready || len(s.Devices) != len(tt.devices) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
