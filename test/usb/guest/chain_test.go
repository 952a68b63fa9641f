//go:build linux && amd64

package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
)

const chainID = "usb-1"

// TestChain: a device is set up, makes a key, and signs the blocks of a real node. It is
// unplugged while it signs, and when it is plugged in again, blocks go on. It never signs two
// messages for one place.
func TestChain(t *testing.T) {
	c := newChain(t)
	c.goesOn(10)
	c.unpluggedWithin()
	c.goesOn(4)
	c.judge()
}

// chain is a lone validator whose key is on the device.
type chain struct {
	t      *testing.T
	ctx    context.Context
	device *device
	oracle *oracle
	node   *rig.Node
	signer *rig.Signer
	public pubkey.Key
	starts int // of the node
}

// newChain sets the device up, has it make the key, and starts signer and node.
func newChain(t *testing.T) *chain {
	c := &chain{t: t, ctx: t.Context(), oracle: &oracle{signed: map[place][]byte{}}}
	if end, ok := t.Deadline(); ok {
		ctx, cancel := context.WithDeadline(c.ctx, end.Add(-30*time.Second)) // for the logs
		t.Cleanup(cancel)
		c.ctx = ctx
	}
	mountDisk(t)
	t.Setenv("PRIVYSEAL_CACHE", "/disk")
	t.Setenv("PRIVYSEAL_RUN", "/tmp/run")
	c.device = plugIn(t, yubihsmtest.Options{Signs: c.oracle.hear})
	setUp(t)
	c.init()
	c.oracle.listen()
	t.Cleanup(c.end)
	check(t, c.signer.Start())
	c.startNode()
	return c
}

// mountDisk mounts the image of a disk on /disk: a state needs a file system that may hold
// one, and the node is there.
func mountDisk(t *testing.T) {
	t.Helper()
	for _, name := range []string{"loop", "crc16", "crc32c_generic", "mbcache", "jbd2", "ext4"} {
		if err := load("/"+name+".ko", ""); err != nil {
			t.Fatalf("module %s: %v", name, err)
		}
	}
	check(t, os.MkdirAll("/disk", 0o755))
	image, err := os.OpenFile("/disk.ext4", os.O_RDWR, 0)
	check(t, err)
	defer image.Close()
	loop, err := os.OpenFile("/dev/loop0", os.O_RDWR, 0)
	check(t, err)
	defer loop.Close()
	const loopSetFD = 0x4c00
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, loop.Fd(), loopSetFD, image.Fd()); errno != 0 {
		t.Fatal(errno)
	}
	check(t, syscall.Mount("/dev/loop0", "/disk", "ext4", 0, ""))
}

// init makes the key and the homes of signer and node.
func (c *chain) init() {
	c.t.Helper()
	var err error
	c.signer, err = rig.InitSigner(c.ctx, "/privyseal", "/disk/signer", chainID, []string{"unix:///disk/n.sock"}, "--provider", "yubihsm",
		"--yubihsm-device", "usb://7550054", "--yubihsm-auth-key", "4", "--yubihsm-password-file", "/tmp/passwords/validator-password",
		"--yubihsm-key-id", "1", "--yubihsm-admin-auth-key", "2", "--yubihsm-admin-password-file", "/tmp/passwords/operator-password")
	check(c.t, err)
	text, err := c.signer.Key(c.ctx, "json")
	check(c.t, err)
	c.public, err = pubkey.ParseJSON([]byte(text))
	check(c.t, err)
	c.node, err = rig.InitNode(c.ctx, "v0.38.26", "/disk/node")
	check(c.t, err)
	check(c.t, c.node.EditGenesis(func(g *rig.Genesis) {
		g.SetChainID(chainID)
		g.SetValidator(0, json.RawMessage(text), string(c.public.Type()))
	}))
}

func (c *chain) startNode() {
	c.t.Helper()
	c.starts++
	check(c.t, c.node.StartUntilUp(c.ctx, "unix:///disk/n.sock"))
}

// end stops the programs, and shows their logs if the test has failed.
func (c *chain) end() {
	stop := func(p *rig.Process) {
		if p == nil {
			return
		}
		err := p.Stop(time.Minute)
		if c.t.Failed() {
			c.t.Logf("%s (%v) ends with\n%s", p.Name, err, p.Tail(30))
		}
	}
	stop(c.node.Process)
	stop(c.signer.Process)
}

// await waits until a condition holds.
func (c *chain) await(what string, holds func() bool) {
	c.t.Helper()
	for ; !holds(); time.Sleep(20 * time.Millisecond) {
		if c.ctx.Err() != nil {
			c.t.Fatalf("not so: %s", what)
		}
	}
}

// goesOn waits for n blocks more. A node that has asked 50 times for a vote, which takes half
// a minute, gives it up, and when it is alone it stands until it is started again.
func (c *chain) goesOn(n int64) {
	c.t.Helper()
	from, err := c.node.Height(c.ctx)
	check(c.t, err)
	c.await(fmt.Sprintf("%d blocks after block %d", n, from), func() bool {
		select {
		case <-c.node.Done():
			c.t.Fatalf("the node has ended: %v", c.node.Err())
		default:
		}
		if c.lost("failed signing vote") >= c.starts {
			c.node.Stop(time.Minute)
			c.startNode()
		}
		height, err := c.node.Height(c.ctx)
		return err == nil && height >= from+n
	})
}

// lost returns how many signatures the node gave up, by the words of its log.
func (c *chain) lost(words string) int {
	log, err := os.ReadFile(c.node.Log)
	check(c.t, err)
	return bytes.Count(log, []byte(words))
}

// unpluggedWithin unplugs the device while it signs, and plugs it in again when the signer's
// status says why nothing is signed.
func (c *chain) unpluggedWithin() {
	c.t.Helper()
	c.device.Next(yubihsmtest.SignEdDSA, yubihsmtest.UnpluggedWithin())
	c.await("the device signs", func() bool { return c.device.Armed() == 0 })
	c.device.unplug()
	text := ""
	c.await("the status says that the device is not plugged in", func() bool {
		text = operator{c.t, 0}.types("status", "--home", c.signer.Home)
		return strings.Contains(strings.Join(strings.Fields(text), " "), "the YubiHSM 0007550054 is not plugged in")
	})
	c.device.Plug()
	c.device.plug()
}

// judge fails the test unless every commit has a signature that the device has made, which
// has signed nothing else, and made the signature again that was lost.
func (c *chain) judge() {
	c.t.Helper()
	height, err := c.node.Height(c.ctx)
	check(c.t, err)
	address := fmt.Sprintf("%X", c.public.Address())
	for h := int64(1); h < height; h++ {
		commit, err := c.node.Commit(c.ctx, h)
		check(c.t, err)
		signBytes, signature, ok := commit.SignatureOf(address)
		if !ok || !c.public.Verify(signBytes, signature) || !c.oracle.knows(signBytes) {
			c.t.Errorf("the commit of block %d has no signature of the device: %+v", h, commit)
		}
	}
	signed, again, wrong := c.oracle.says()
	c.t.Logf("%d blocks, %d messages signed, %d of them again, the node started %d times", height, signed, again, c.starts)
	if len(wrong) > 0 || again == 0 && c.lost("failed signing") == 0 {
		c.t.Errorf("the signature that was lost was made again %d times; wrong: %q", again, wrong)
	}
}

// place is what may be signed once.
type place struct {
	height int64
	round  int32
	kind   privval.Kind
}

// oracle knows all that the device has signed for the chain.
type oracle struct {
	mu      sync.Mutex
	listens bool // false: the device is tried out
	signed  map[place][]byte
	last    privval.Request
	again   int // signatures of what was signed before
	wrong   []string
}

func (o *oracle) listen() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.listens = true
}

// hear hears of a signature that the device makes.
func (o *oracle) hear(key uint16, message []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// An empty message is a trial. An extension, which is empty here, is of the vote before.
	if !o.listens || len(message) == 0 || bytes.Equal(message, o.last.ExtensionSignBytes()) {
		return
	}
	request, err := privval.ParseSignBytes(message)
	p := place{request.Height, request.Round, request.Kind}
	before, isAgain := o.signed[p]
	switch {
	case err != nil || request.ChainID != chainID || key != 1:
		o.wrong = append(o.wrong, fmt.Sprintf("key %d signs %x (%v)", key, message, err))
	case isAgain && !bytes.Equal(before, message):
		o.wrong = append(o.wrong, fmt.Sprintf("DOUBLE SIGN at %+v: %x, %x", p, before, message))
	case isAgain:
		o.again++
	}
	o.last, o.signed[p] = request, bytes.Clone(message)
}

// knows reports whether the device has signed a message.
func (o *oracle) knows(message []byte) bool {
	request, err := privval.ParseSignBytes(message)
	o.mu.Lock()
	defer o.mu.Unlock()
	return err == nil && bytes.Equal(o.signed[place{request.Height, request.Round, request.Kind}], message)
}

// says returns how many messages were signed, how many of them again, and what is wrong.
func (o *oracle) says() (signed, again int, wrong []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.signed), o.again, o.wrong
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
