package yubihsmtest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
)

// maxBody is the length of the longest request that the connector takes, in bytes.
const maxBody = 3136 + 3

// URL returns the connector's address, which stays the same.
func (d *Device) URL() string { return "http://" + d.address }

// StartConnector starts the connector after StopConnector.
func (d *Device) StartConnector(t testing.TB) {
	t.Helper()
	if err := d.Listen(); err != nil {
		t.Fatal(err)
	}
}

// Listen is StartConnector outside of tests.
func (d *Device) Listen() error {
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		return err
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
	return nil
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

// TakePlace plugs the device in where another one was, at the other's connector.
func (d *Device) TakePlace(t testing.TB, other *Device) {
	t.Helper()
	d.StopConnector()
	other.StopConnector()
	d.mu.Lock()
	d.address = other.address
	d.mu.Unlock()
	d.StartConnector(t)
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
