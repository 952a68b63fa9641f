package yubihsmtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// maxBody is the length of the longest request that the connector takes, in bytes.
const maxBody = 3136 + 3

// connector speaks what yubihsm-connector 3.0.5 speaks.
type connector struct {
	address string
	server  *http.Server // nil while it is stopped
	ended   chan struct{}
}

// URL returns the connector's address, which stays the same.
func (d *Device) URL() string { return "http://" + d.address }

func (d *Device) listen(t testing.TB) {
	t.Helper()
	d.address = "127.0.0.1:0"
	d.StartConnector(t)
}

// StartConnector starts the connector after StopConnector.
func (d *Device) StartConnector(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/connector/status", d.serveStatus)
	mux.HandleFunc("/connector/api", d.serveAPI)
	server, ended := &http.Server{Handler: mux}, make(chan struct{})
	d.mu.Lock()
	d.address, d.server, d.ended = l.Addr().String(), server, ended
	d.mu.Unlock()
	go func() {
		defer close(ended)
		server.Serve(l)
	}()
}

// StopConnector kills the connector: its connections end, its port is closed. The device
// keeps its sessions.
func (d *Device) StopConnector() {
	d.mu.Lock()
	server, ended := d.server, d.ended
	d.server = nil
	d.mu.Unlock()
	if server != nil {
		server.Close()
		<-ended
	}
}

func (d *Device) serveStatus(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		fail(w, http.StatusMethodNotAllowed)
		return
	}
	status := "OK"
	if !d.isPlugged() {
		status = "NO_DEVICE"
	}
	host, port, _ := net.SplitHostPort(r.Host)
	fmt.Fprintf(w, "status=%s\nserial=*\nversion=3.0.5\npid=%d\naddress=%s\nport=%s\n", status, os.Getpid(), host, port)
}

func (d *Device) isPlugged() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hasPower()
}

func (d *Device) hasPower() bool {
	select {
	case <-d.power:
		return false
	default:
		return true
	}
}

// serveAPI hands a message to the device.
func (d *Device) serveAPI(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		fail(w, http.StatusMethodNotAllowed)
		return
	}
	if r.ContentLength < 3 || r.ContentLength > maxBody {
		fail(w, http.StatusBadRequest)
		return
	}
	message, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, http.StatusInternalServerError)
		return
	}
	a := d.exchange(r.Context(), message)
	switch {
	case a.dropped:
		cut(w, nil)
	case a.status != 0:
		fail(w, a.status)
	case a.sent < len(a.message):
		cut(w, a.message[:a.sent])
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(a.message)
	}
}

func fail(w http.ResponseWriter, status int) { http.Error(w, http.StatusText(status), status) }

// cut ends the connection after a part of the answer.
func cut(w http.ResponseWriter, part []byte) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if part != nil {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 4096\r\n\r\n%s", part)
	}
	conn.Close()
}

// Exchange hands a message to the device as USB does, and returns the answer; false if
// none comes.
func (d *Device) Exchange(message []byte) ([]byte, bool) {
	a := d.exchange(context.Background(), message)
	return a.message[:a.sent], !a.dropped && a.status == 0
}

// answer is what the connector gets of the device.
type answer struct {
	message []byte
	sent    int  // how many bytes of it the connector sends
	status  int  // of HTTP, in place of the message
	dropped bool // nothing is sent
}

// noDevice is what the connector answers without a device.
var noDevice = answer{status: http.StatusInternalServerError}

// exchange has the device work on a message.
func (d *Device) exchange(ctx context.Context, message []byte) answer {
	d.busy.Lock()
	defer d.busy.Unlock()
	d.mu.Lock()
	if !d.hasPower() {
		d.mu.Unlock()
		return noDevice
	}
	power, r := d.power, d.receive(message)
	command := message[0]
	if r.call != nil {
		command = r.call.command
	}
	d.seen = append(d.seen, command)
	p := d.strike(command)
	d.mu.Unlock()
	switch {
	case p.lost:
		return answer{dropped: true}
	case !p.pause(ctx, power):
		return d.silence(power)
	}
	inner, ok := d.work(r, p, power)
	if !ok {
		return noDevice
	}
	return p.deliver(inner)
}

// silence is the answer where the device did not get to work.
func (d *Device) silence(power chan struct{}) answer {
	select {
	case <-power:
		return noDevice
	default:
		return answer{dropped: true}
	}
}

// work executes a command and takes the device's time for it; false if the power goes.
func (d *Device) work(r reception, p plan, power chan struct{}) ([]byte, bool) {
	if r.call == nil {
		return r.answer, true
	}
	d.mu.Lock()
	if d.power != power || !d.hasPower() {
		d.mu.Unlock()
		return nil, false
	}
	inner := r.perform(p.instead)
	d.mu.Unlock()
	if p.unplugs {
		d.Unplug()
	}
	if !sleep(power, d.timeOf(inner[0])) {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.spoil != nil {
		inner = p.spoil(inner)
	}
	return r.finish(inner), true
}

// timeOf is what the device takes for a command that it has answered so.
func (d *Device) timeOf(answer byte) time.Duration {
	switch answer {
	case SignEdDSA | reply, SignECDSA | reply, SignAttestation | reply:
		return d.options.SignTime
	}
	return 0
}

// sleep waits; false if the power goes.
func sleep(power <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-power:
		return false
	default:
	}
	if d == 0 {
		return true
	}
	select {
	case <-power:
		return false
	case <-timer.C:
		return true
	}
}

// flip changes a byte of a message that is long enough.
func flip(message []byte, i int) []byte {
	if i < 0 {
		i += len(message)
	}
	if i >= 0 && i < len(message) {
		message[i] ^= 1
	}
	return message
}

// shorten makes the length in a frame fit its data.
func shorten(message []byte) []byte {
	binary.BigEndian.PutUint16(message[1:], uint16(len(message)-3))
	return message
}
