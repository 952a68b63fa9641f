package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"privyseal/internal/eif"
	inside "privyseal/internal/enclave/nitro"
	"privyseal/internal/key/nitrokms/kmstest"
	"privyseal/internal/nitro"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/ops/nitro/nitrotest"
)

// An instance with enclaves, for scripts: nitro-cli, what runs inside, its
// security module, and KMS. The enclave is the real one, in a process instead of
// a machine; the module signs below a root of its own, which the policy names.
// Everything lives in $NITRO.

const kmsName = "kms.test"

// nitroSetup makes $NITRO: the test root, and a KMS that listens on $KMS until
// the script ends.
func nitroSetup(setenv func(k, v string), atEnd func(func())) error {
	// A socket's path is short.
	nitroDir, err := os.MkdirTemp("", "nitro")
	if err != nil {
		return err
	}
	atEnd(func() { os.RemoveAll(nitroDir) }) // enclaves end without it
	setenv("NITRO", nitroDir)
	if err := nitrotest.NewAuthority(filepath.Join(nitroDir, "root"), "test.nitro-enclaves"); err != nil {
		return err
	}
	if err := nitrotest.NewAuthority(filepath.Join(nitroDir, "kms"), kmsName); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	atEnd(func() { l.Close() })
	setenv("KMS", l.Addr().String())
	setenv("KEY", kmsKeyARN)
	setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	setenv("AWS_SECRET_ACCESS_KEY", "test")
	setenv("AWS_EC2_METADATA_DISABLED", "true")
	go serveKMS(l, nitroDir)
	return nil
}

const kmsKeyARN = "arn:aws:kms:eu-central-1:111122223333:key/00000000-1111-2222-3333-444444444444"

// fakenitrocli is AWS's launcher, as far as package nitrohost uses it.
func fakenitrocli() {
	if err := runNitroCLI(os.Getenv("NITRO"), os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "nitro-cli:", err)
		os.Exit(1)
	}
}

// described is an enclave as nitro-cli prints it.
type described struct {
	EnclaveName, EnclaveID string
	ProcessID              int
	EnclaveCID             uint32
	NumberOfCPUs           int
	CPUIDs                 []int
	MemoryMiB              int
	State, Flags           string
	Measurements           map[string]string
}

func runNitroCLI(dir, command string, args []string) error {
	fl := flag.NewFlagSet(command, flag.ContinueOnError)
	path := fl.String("eif-path", "", "")
	name := fl.String("enclave-name", "", "")
	memory := fl.Int("memory", 0, "")
	cpus := fl.Int("cpu-count", 0, "")
	cid := fl.Uint("enclave-cid", 16, "")
	debug := fl.Bool("debug-mode", false, "")
	id := fl.String("enclave-id", "", "")
	if err := fl.Parse(args); err != nil {
		return err
	}
	switch command {
	case "describe-enclaves":
		list := []described{}
		files, _ := filepath.Glob(filepath.Join(dir, "*.enclave"))
		for _, f := range files {
			var d described
			data, err := os.ReadFile(f)
			if err == nil && json.Unmarshal(data, &d) == nil && syscall.Kill(d.ProcessID, 0) == nil {
				list = append(list, d)
			}
		}
		return json.NewEncoder(os.Stdout).Encode(list)
	case "terminate-enclave":
		var d described
		data, err := os.ReadFile(filepath.Join(dir, *id+".enclave"))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &d); err != nil {
			return err
		}
		if err := syscall.Kill(d.ProcessID, syscall.SIGKILL); err != nil {
			return err
		}
		fmt.Printf(`{"EnclaveName":%q,"EnclaveID":%q,"Terminated":true}`, d.EnclaveName, d.EnclaveID)
		return os.Remove(filepath.Join(dir, *id+".enclave"))
	case "run-enclave":
	default:
		return fmt.Errorf("unknown command %s", command)
	}
	im, err := image.Read(*path)
	if err != nil {
		return err
	}
	m := im.Measure()
	d := described{
		EnclaveName: *name, EnclaveID: "i-0-enc" + strconv.FormatInt(time.Now().UnixNano(), 16), EnclaveCID: uint32(*cid),
		NumberOfCPUs: *cpus, MemoryMiB: *memory, State: "RUNNING", Flags: "NONE",
		Measurements: map[string]string{"PCR0": m.PCR0.String(), "PCR1": m.PCR1.String(), "PCR2": m.PCR2.String()},
	}
	if *debug {
		d.Flags = "DEBUG_MODE"
	}
	cmd := exec.Command("enclave", dir, strconv.Itoa(int(*cid)), *path, strconv.FormatBool(*debug))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cmd.Stderr, err = os.OpenFile(filepath.Join(dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	up, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// The enclave's heartbeat: it listens.
	if _, err := io.ReadFull(up, make([]byte, 1)); err != nil {
		return errors.New("[ E36 ] Enclave boot failure.")
	}
	d.ProcessID = cmd.Process.Pid
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	os.Stdout.Write(data)
	return os.WriteFile(filepath.Join(dir, d.EnclaveID+".enclave"), data, 0o600)
}

// fakeenclave DIR CID EIF DEBUG is a machine with an enclave in it.
func fakeenclave() {
	if err := runEnclave(os.Args[1], os.Args[2], os.Args[3], os.Args[4] == "true"); err != nil {
		fmt.Fprintln(os.Stderr, "enclave:", err)
		os.Exit(1)
	}
}

func runEnclave(dir, cid, path string, debug bool) error {
	im, err := image.Read(path)
	if err != nil {
		return err
	}
	p, err := image.Policy(im)
	if err != nil {
		return err
	}
	encoded, err := p.Encode()
	if err != nil {
		return err
	}
	m := im.Measure()
	if debug {
		m = eif.Measurements{}
	}
	module, err := nitrotest.NewModule(filepath.Join(dir, "root"), m)
	if err != nil {
		return err
	}
	base := filepath.Join(dir, "vsock-"+cid)
	dial := func(ctx context.Context, port uint32) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", fmt.Sprintf("%s_%d", base, port))
	}
	os.Remove(base) // of an enclave that was killed
	l, err := net.Listen("unix", base)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for { // with its folder, the test is gone
			if _, err := os.Stat(dir); err != nil {
				cancel()
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
	os.Stdout.Write([]byte{0xB7})
	return inside.Run(ctx, inside.Boot{
		Version: "test", Policy: encoded, Module: module,
		Listen: func(port uint32) (net.Listener, error) { return guestListener{l, port}, nil },
		Dial:   dial,
	})
}

// guestListener is a port of the guest: the host asks the monitor's socket for it.
type guestListener struct {
	net.Listener
	port uint32
}

func (l guestListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		want := fmt.Sprintf("CONNECT %d\n", l.port)
		line := make([]byte, len(want))
		if _, err := io.ReadFull(c, line); err == nil && string(line) == want {
			if _, err := c.Write([]byte("OK 1\n")); err == nil {
				return c, nil
			}
		}
		c.Close()
	}
}

// serveKMS plays AWS KMS for documents of the test root: GenerateDataKey and
// Decrypt with a recipient, under one key, bound to the encryption context.
func serveKMS(l net.Listener, dir string) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "kms.pem"), filepath.Join(dir, "kms.key"))
	if err != nil {
		return
	}
	server := http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer, err := kmsAnswer(dir, r)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				answer = map[string]any{"__type": "AccessDeniedException", "message": err.Error()}
			}
			json.NewEncoder(w).Encode(answer)
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	server.ServeTLS(l, "", "")
}

func kmsAnswer(dir string, r *http.Request) (map[string]any, error) {
	var req struct {
		CiphertextBlob    []byte
		EncryptionContext map[string]string
		Recipient         struct{ AttestationDocument []byte }
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, err
	}
	root, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		return nil, err
	}
	anchor, err := nitro.ParseAnchor(root)
	if err != nil {
		return nil, err
	}
	doc, err := nitro.Parse(req.Recipient.AttestationDocument)
	if err != nil {
		return nil, err
	}
	if err := doc.Verify(anchor, time.Now()); err != nil {
		return nil, err
	}
	var plain, blob []byte
	switch r.Header.Get("X-Amz-Target") {
	case "TrentService.GenerateDataKey":
		plain = make([]byte, 32)
		rand.Read(plain)
		blob = kmsEncrypt(plain, req.EncryptionContext)
	case "TrentService.Decrypt":
		block := kmsAEAD()
		if len(req.CiphertextBlob) < 12 {
			return nil, errors.New("no ciphertext")
		}
		if plain, err = block.Open(nil, req.CiphertextBlob[:12], req.CiphertextBlob[12:], kmsContext(req.EncryptionContext)); err != nil {
			return nil, errors.New("InvalidCiphertext")
		}
	default:
		return nil, fmt.Errorf("no operation %q", r.Header.Get("X-Amz-Target"))
	}
	sealed, err := kmstest.Seal(doc.PublicKey, plain)
	return map[string]any{"KeyId": kmsKeyARN, "CiphertextBlob": blob, "CiphertextForRecipient": sealed}, err
}

// kmsEncrypt is what `aws kms encrypt` does, with an encryption context or
// without.
func kmsEncrypt(plain []byte, encryptionContext map[string]string) []byte {
	nonce := make([]byte, 12)
	rand.Read(nonce)
	return kmsAEAD().Seal(nonce, nonce, plain, kmsContext(encryptionContext))
}

func kmsAEAD() cipher.AEAD {
	block, err := aes.NewCipher(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func kmsContext(c map[string]string) []byte {
	b, err := json.Marshal(c)
	if err != nil || len(c) == 0 {
		return nil
	}
	return b
}

// awsencrypt FILE prints a ciphertext of the file, as `aws kms encrypt --query
// CiphertextBlob --output text` does without its base64.
func awsencrypt() {
	plain, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(kmsEncrypt(plain, nil))
}

// hideAProgram IN OUT adds a ramdisk to an image, whose /init takes the place of the
// first one's. PCR1 stays as it is.
func hideAProgram() {
	in, err := image.Read(os.Args[1])
	if err == nil {
		var over []byte
		over, err = eif.Archive([]eif.File{{Name: "init", Mode: eif.ModeRegular | 0o755, Data: []byte("another program")}})
		if err == nil {
			src := eif.Source{Arch: eif.AMD64, Kernel: in.Kernel(), Cmdline: in.Cmdline(), Ramdisks: append(in.Ramdisks(), over)}
			if in, err = eif.Build(src); err == nil {
				err = os.WriteFile(os.Args[2], in.Encode(), 0o600)
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// writeNitroParts puts a kernel and a program into dir, which nobody boots.
func writeNitroParts(dir string) error {
	kernel := make([]byte, 0x300)
	copy(kernel[0x202:], "HdrS")
	program := make([]byte, 64, 200)
	copy(program, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(program[16:], 2)  // ET_EXEC
	binary.LittleEndian.PutUint16(program[18:], 62) // x86-64
	binary.LittleEndian.PutUint32(program[20:], 1)
	binary.LittleEndian.PutUint16(program[52:], 64)
	arm := bytes.Clone(program)
	binary.LittleEndian.PutUint16(arm[18:], 183)
	// One program header, PT_INTERP.
	dynamic := append(bytes.Clone(program), make([]byte, 56)...)
	binary.LittleEndian.PutUint64(dynamic[32:], 64)
	binary.LittleEndian.PutUint16(dynamic[54:], 56)
	binary.LittleEndian.PutUint16(dynamic[56:], 1)
	binary.LittleEndian.PutUint32(dynamic[64:], 3)
	module, moduleARM := bytes.Clone(program), bytes.Clone(arm)
	binary.LittleEndian.PutUint16(module[16:], 1) // ET_REL
	binary.LittleEndian.PutUint16(moduleARM[16:], 1)
	image := make([]byte, 64)
	copy(image[0x38:], "ARM\x64")
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "bzImage"), kernel, 0o600),
		os.WriteFile(filepath.Join(dir, "Image"), image, 0o600),
		os.WriteFile(filepath.Join(dir, "nsm.ko"), module, 0o600),
		os.WriteFile(filepath.Join(dir, "nsm-arm64.ko"), moduleARM, 0o600),
		os.WriteFile(filepath.Join(dir, "program"), program, 0o600),
		os.WriteFile(filepath.Join(dir, "program-arm64"), arm, 0o600),
		os.WriteFile(filepath.Join(dir, "program-dynamic"), dynamic, 0o600))
}

// nitroVectors puts the documents of AWS into dir/vectors, if they are there.
func nitroVectors(dir string) error {
	const from = "../../../shared/vectors/nitro"
	if _, err := os.Stat(from); err != nil {
		return nil
	}
	return os.CopyFS(filepath.Join(dir, "vectors"), os.DirFS(from))
}
