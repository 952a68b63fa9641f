package provision

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"
)

// setupReport is what tmkms leaves on a device about its set-up, in the form of the Rust crate
// yubihsm 0.42.
type setupReport struct {
	Version  int     `json:"version"`
	UUID     string  `json:"uuid"`
	Serial   string  `json:"device_serial_number"`
	Hostname *string `json:"hostname"`
	Username *string `json:"username"`
	// Date is year, day of the year, hour, minute, second, nanosecond, and the offset from UTC
	// in hours, minutes and seconds.
	Date     [9]int `json:"date"`
	Software string `json:"software"`
}

// newReport returns the report of a set-up. It names neither host nor user: whoever has the
// device can read it.
func newReport(serial uint32, at time.Time) ([]byte, error) {
	var id [16]byte
	rand.Read(id[:])                                // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4 of RFC 9562
	at = at.UTC()
	return json.Marshal(setupReport{
		Version: 1, UUID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), Serial: fmt.Sprintf("%010d", serial),
		Date: [9]int{at.Year(), at.YearDay(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond()}, Software: "privyseal",
	})
}
