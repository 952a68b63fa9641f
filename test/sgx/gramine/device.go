//go:build linux

package main

import (
	"encoding/binary"
	"sync"
	"syscall"

	"privyseal/test/sgx/fuse"
	"privyseal/test/sgx/rig"
)

// device is libos/src/fs/dev/attestation.c: the files below /dev/attestation. What is read
// is made when a file is opened, so each reader has a whole quote. The report data is one for
// all, and what is written is padded or cut to its size without a word.
func device(dir string, m *rig.Machine, e *enclave) map[string]fuse.File {
	var mu sync.Mutex
	var data [64]byte
	var target [512]byte
	m.Intel.OnQuote = func(signed []byte) { binary.LittleEndian.PutUint32(signed[48+16:], e.misc) } // MISCSELECT
	fixed := func(b []byte) func() ([]byte, syscall.Errno) {
		return func() ([]byte, syscall.Errno) { return b, 0 }
	}
	take := func(to []byte) func([]byte) {
		return func(b []byte) {
			mu.Lock()
			defer mu.Unlock()
			clear(to)
			copy(to, b)
		}
	}
	kind := e.manifest.SGX.Attestation
	if kind == "" {
		kind = "none"
	}
	files := map[string]fuse.File{
		"attestation_type": {Open: fixed([]byte(kind))},
		"user_report_data": {Write: take(data[:])},
		"target_info":      {Write: take(target[:])},
		"my_target_info":   {Open: fixed(make([]byte, 512))},
		"report":           {Open: fixed(make([]byte, 432))},
		// Made once, at the start: init_seal_key_material in enclave_framework.c.
		"keys/_sgx_mrenclave": {Open: fixed(m.SealKey("mrenclave", e.report))},
		"keys/_sgx_mrsigner":  {Open: fixed(m.SealKey("mrsigner", e.report))},
	}
	if kind != "dcap" {
		return files
	}
	files["quote"] = fuse.File{Open: func() ([]byte, syscall.Errno) {
		mu.Lock()
		report := e.report
		report.ReportData = data
		mu.Unlock()
		now, err := rig.Load(dir) // whether AESM runs may have changed
		if err != nil {
			ill(err)
			return nil, syscall.EACCES
		}
		switch { // each failure is EACCES
		case now.NoAESM:
			say("%s\n[P1:T2:privyseal-sgx] error: Failed to get quote (error code=-111)", noAESM)
			return nil, syscall.EACCES
		case now.NoQuotes:
			say("error: AESM service returned error 12\n[P1:T2:privyseal-sgx] error: Failed to get quote (error code=-1)")
			return nil, syscall.EACCES
		}
		quote, err := m.Intel.Quote(report)
		if err != nil {
			ill(err)
			return nil, syscall.EACCES
		}
		return quote, 0
	}}
	return files
}
