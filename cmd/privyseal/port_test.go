package main

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/home"
)

// A port is busy if somebody listens there, and not because somebody else looks.
func TestCheckPort(t *testing.T) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", host)
		if err != nil {
			t.Logf("%s: %v", host, err) // a host without IPv6
			continue
		}
		addr := l.Addr().String()
		if err := home.CheckPort(addr); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s is taken: %v", addr, err)
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.Close()
		if err := home.CheckPort(addr); err != nil {
			t.Errorf("%s is free: %v", addr, err)
		}
	}
	if err := home.CheckPort("localhost:1"); err == nil {
		t.Error("a name is an address")
	}
}

// init makes a config that can be started: a busy port is not in it.
func TestInitAvoidsABusyPort(t *testing.T) {
	usual := build().House("").Kinds.New().Listen
	if l, err := net.Listen("tcp", usual); err == nil {
		defer l.Close() // else another program is so kind
	}
	home := filepath.Join(diskDir(t), "home")
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "c", "--node", "unix:///nowhere.sock")
	c, err := build().House("").Kinds.Load(filepath.Join(home, config.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen == usual || !strings.HasPrefix(c.Listen, "127.0.0.1:266") {
		t.Errorf("metrics on %s", c.Listen)
	}
}
