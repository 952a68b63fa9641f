package monitor

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Devices sets what is known of the devices or servers that sign for the chain, in the order
// in which they are asked. devices is called for each status and each scrape, and must not
// wait for any; nil: there are none.
func (c *Chain) Devices(devices func() []Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.devices = devices
}

// deviceSnapshot returns nil for a chain that no device signs for. The caller holds mu.
func (c *Chain) deviceSnapshot() []Device {
	if c.devices == nil {
		return nil
	}
	return c.devices()
}

func deviceDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("privyseal_device_"+name, help, ofChain("device"), nil)
}

var (
	deviceUp         = deviceDesc("up", "1 if nothing is wrong with a device or server that signs for the chain, 0 if it failed and is not asked while another one signs.")
	deviceChanged    = deviceDesc("changed_timestamp_seconds", "Unix time at which that last changed; after a start that of the start.")
	deviceSignatures = deviceDesc("signatures_total", "Signatures that the device made for the chain.")
	deviceSeconds    = deviceDesc("sign_seconds_total", "Time that these took the device, without the time in a queue.")
	deviceLogUsed    = deviceDesc("log_entries", "Entries in the audit log of the device; absent where it has none.")
	deviceLogSize    = deviceDesc("log_size", "Entries that this log has room for.")
	deviceDrained    = deviceDesc("log_drained", "1 if the signer drains this log, 0 if it cannot; absent without audit_dir.")
	deviceForeign    = deviceDesc("foreign_signatures_total", "Signatures with the chain's key in this log that no signer of ours asked for; absent without audit_dir.")
)

// deviceCollector reads the devices of all chains.
type deviceCollector struct{ m *Monitor }

// Describe implements prometheus.Collector.
func (d deviceCollector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{deviceUp, deviceChanged, deviceSignatures, deviceSeconds, deviceLogUsed, deviceLogSize, deviceDrained, deviceForeign} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (d deviceCollector) Collect(out chan<- prometheus.Metric) {
	d.m.mu.Lock()
	chains := slices.Clone(d.m.chains)
	d.m.mu.Unlock()
	for _, c := range chains {
		c.mu.Lock()
		devices := c.deviceSnapshot()
		c.mu.Unlock()
		for _, one := range devices {
			c.collectDevice(one, out)
		}
	}
}

func (c *Chain) collectDevice(d Device, out chan<- prometheus.Metric) {
	send := func(desc *prometheus.Desc, t prometheus.ValueType, v float64) {
		out <- prometheus.MustNewConstMetric(desc, t, v, c.metrics.name, c.metrics.id, d.Address)
	}
	send(deviceUp, prometheus.GaugeValue, oneIf(d.Failed == ""))
	send(deviceChanged, prometheus.GaugeValue, float64(d.Since.UnixNano())/float64(time.Second))
	send(deviceSignatures, prometheus.CounterValue, float64(d.Signatures))
	send(deviceSeconds, prometheus.CounterValue, d.Took)
	if d.LogSize > 0 {
		send(deviceLogUsed, prometheus.GaugeValue, float64(d.LogUsed))
		send(deviceLogSize, prometheus.GaugeValue, float64(d.LogSize))
	}
	if d.Audited {
		send(deviceDrained, prometheus.GaugeValue, oneIf(d.Undrained == ""))
		send(deviceForeign, prometheus.CounterValue, float64(d.Foreign))
	}
}
