package main

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"privyseal/internal/yubico"
	"privyseal/yubihsm"
)

func TestServes(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	folder := t.TempDir()
	go func() {
		ended <- run(ctx, []string{"-listen", "127.0.0.1:0", "-serial", "7", "-certificates", folder}, w)
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	device, err := yubihsm.Open(regexp.MustCompile(`http://\S+:\d+`).FindString(line))
	if err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	defer device.Close()
	s, err := yubihsm.Authenticate(t.Context(), device, 1, yubihsm.DeriveKey([]byte("password")))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := s.DeviceInfo(t.Context()); err != nil || info.Serial != 7 || !strings.Contains(line, "0000000007") {
		t.Errorf("%v, %v in %q", info, err, line)
	}
	certificate, err := s.Opaque(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var trusted [2][]byte
	for i, name := range []string{"root.pem", "sub-ca.pem"} {
		if trusted[i], err = os.ReadFile(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := yubico.ParseAnchor(trusted[0])
	if err != nil {
		t.Fatal(err)
	}
	middle, _ := pem.Decode(trusted[1])
	if serial, err := (yubico.Evidence{Device: certificate, Between: [][]byte{middle.Bytes}}).VerifyDevice(root, time.Now()); err != nil || serial != 7 {
		t.Errorf("%d, %v", serial, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRefuses(t *testing.T) {
	over, stop := context.WithCancel(t.Context()) // so that one that is served ends at once
	stop()
	for _, address := range []string{"0.0.0.0:0", "localhost:1", "127.0.0.1", "192.0.2.1:12345"} {
		err := run(over, []string{"-listen", address}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "is not HOST:PORT on loopback") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := run(t.Context(), []string{"127.0.0.1:0"}, io.Discard); err == nil || err.Error() != `unexpected argument "127.0.0.1:0"` {
		t.Error(err)
	}
	if err := run(t.Context(), []string{"-listen", "127.0.0.1:0", "-certificates", "nowhere"}, io.Discard); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
