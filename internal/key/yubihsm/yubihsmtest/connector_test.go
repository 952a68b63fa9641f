package yubihsmtest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestConnectorIsYubicos has Yubico's connector, which has no device here, and ours, from
// which the device is unplugged, answer the same requests.
func TestConnectorIsYubicos(t *testing.T) {
	real := startConnector(t, filepath.Join(Programs(t, "yubihsm-connector"), "yubihsm-connector"))
	d := New(t, Options{})
	d.Unplug()
	for _, r := range []struct {
		method, path string
		size         int
	}{
		{"GET", "/connector/status", 0},
		{"POST", "/connector/status", 0},
		{"GET", "/connector/api", 0},
		{"POST", "/connector/api", 0},
		{"POST", "/connector/api", 2},
		{"POST", "/connector/api", 3},
		{"POST", "/connector/api", 3139},
		{"POST", "/connector/api", 3140},
		{"POST", "/connector/api", -3}, // without Content-Length
		{"GET", "/", 0},
		{"GET", "/connector", 0},
	} {
		want, got := ask(t, real, r.method, r.path, r.size), ask(t, d.URL(), r.method, r.path, r.size)
		if got != want {
			t.Errorf("%s %s with %d bytes: ours answers\n%s\nYubico's\n%s", r.method, r.path, r.size, got, want)
		}
	}
}

var processOrPort = regexp.MustCompile(`(?m)^(pid|port)=\d+$`)

// ask returns status, the headers that matter, and text of an answer.
func ask(t *testing.T, url, method, path string, size int) string {
	t.Helper()
	var body io.Reader = bytes.NewReader(make([]byte, max(0, size)))
	if size < 0 {
		body = io.MultiReader(bytes.NewReader(make([]byte, -size))) // whose length nobody knows
	}
	request, err := http.NewRequest(method, url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s\nAllow: %s\nContent-Type: %s\n%s", resp.Status, resp.Header.Get("Allow"), resp.Header.Get("Content-Type"),
		processOrPort.ReplaceAllString(string(text), "$1="))
}

// startConnector runs Yubico's connector until the test ends, and skips the test if there
// is a device.
func startConnector(t *testing.T, program string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	var output bytes.Buffer
	cmd := exec.Command(program, "-l", address)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	url = "http://" + address
	for {
		resp, err := http.Get(url + "/connector/status")
		if err == nil {
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if !strings.HasPrefix(string(text), "status=NO_DEVICE") {
				t.Skipf("this machine has a YubiHSM: %s", text)
			}
			return url
		}
		select {
		case <-ended:
			t.Fatalf("yubihsm-connector does not run:\n%s", output.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
