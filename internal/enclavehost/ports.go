package enclavehost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"privyseal/internal/dial"
	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/vsock"
)

// helloTimeout bounds the first frame of a connection.
const helloTimeout = 10 * time.Second

// port is one port that the enclave dials.
type port struct {
	number uint32
	limit  int // of connections at once
	handle func(context.Context, vsock.Conn)
}

func (h *Host) ports() []port {
	nodes := 0
	for _, c := range h.Chains {
		nodes += len(c.Nodes)
	}
	ports := []port{
		{hostlink.StatePort, 4 + 2*len(h.Chains), h.state},
		{hostlink.NodePort, 4 + 2*nodes, h.node},
		{hostlink.LogPort, 4, h.logs},
	}
	if h.KMS != nil {
		ports = append(ports, port{hostlink.KMSPort, maxKMS, h.kms})
	}
	if h.Etcd != nil {
		ports = append(ports, port{hostlink.EtcdPort, 4 + 2*len(h.Chains), h.etcd})
	}
	if h.DynamoDB != nil {
		ports = append(ports, port{hostlink.TablePort, 4 + 2*len(h.Chains), h.table}, port{hostlink.RolePort, 4 + 2*len(h.Chains), h.role})
	}
	return ports
}

// accept serves a port until ctx ends and all its connections have ended.
func (h *Host) accept(ctx context.Context, l net.Listener, p port) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	slots := make(chan struct{}, p.limit)
	var group sync.WaitGroup
	defer group.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			h.once.warn(h.Log, "cannot accept a connection of the enclave", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		c, ok := conn.(vsock.Conn)
		select {
		case slots <- struct{}{}:
		default:
			ok = false
			h.once.warn(h.Log, "closed a connection of the enclave", fmt.Errorf("%d connections to port %d at once", p.limit, p.number))
		}
		if !ok {
			conn.Close()
			continue
		}
		group.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			p.handle(ctx, c)
		})
	}
}

// state keeps the state of a chain.
func (h *Host) state(ctx context.Context, conn vsock.Conn) {
	defer h.lookNow()
	conn.SetDeadline(time.Now().Add(helloTimeout))
	id, err := hostlink.ReadStateOpen(conn)
	if err != nil {
		h.ended("malformed request of the enclave for a state", err)
		return
	}
	keeper := h.states[id]
	if keeper == nil {
		err := fmt.Errorf("no chain %.50q with the key %x… in the config: do key file and state belong together?", id.ChainID, id.Key[:6])
		h.ended("the enclave asks for a state that we do not keep", err)
		h.ended("", hostlink.RefuseState(conn, err))
		return
	}
	conn.SetDeadline(time.Time{})
	h.ended("cannot keep the state of "+id.ChainID, keeper.Serve(ctx, conn))
}

// node connects the enclave to one of its nodes.
func (h *Host) node(ctx context.Context, conn vsock.Conn) {
	conn.SetDeadline(time.Now().Add(helloTimeout))
	hello, err := hostlink.ReadNodeHello(conn)
	if err != nil {
		h.ended("malformed request of the enclave for a node", err)
		return
	}
	c := h.chains[hello.ChainID]
	if c == nil || c.nodes[hello.Node] == nil {
		err := fmt.Errorf("no node %.50q of chain %.50q in the config", hello.Node, hello.ChainID)
		h.ended("the enclave asks for a node that it was not given", err)
		h.ended("", hostlink.AnswerNode(conn, err))
		return
	}
	n := c.nodes[hello.Node]
	outside, err := c.reach(ctx, n)
	if err == nil {
		// Before the answer, or what the enclave reports of this connection would come first.
		c.Observer.Node(n.Name, "parked", nil)
	}
	if answerErr := hostlink.AnswerNode(conn, err); err != nil || answerErr != nil {
		if outside != nil {
			outside.Close()
		}
		return // the enclave reports what came of it
	}
	conn.SetDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { outside.Close() })()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-c.Cut:
			outside.Close()
		case <-over:
		}
	}()
	h.ended("", vsock.Pipe(conn, outside))
}

// reach dials the node if the chain may reach its nodes.
func (c *chain) reach(ctx context.Context, n *Node) (vsock.Conn, error) {
	if c.Closed != nil {
		if err := c.Closed(); err != nil {
			return nil, err
		}
	}
	return n.dial(ctx)
}

// dial connects to the node. The handshake is the enclave's part.
func (n *Node) dial(ctx context.Context) (vsock.Conn, error) {
	conn, err := dial.Node(ctx, n.Network, n.Address, n.PeerUID)
	if err != nil {
		return nil, err
	}
	c, ok := conn.(vsock.Conn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%s is not a network of a node", n.Network)
	}
	return c, nil
}

func (h *Host) etcd(ctx context.Context, conn vsock.Conn) {
	h.ended("the enclave asks for a member of etcd", ProxyEtcd(ctx, conn, h.Etcd.Endpoints))
}

// ProxyEtcd connects the enclave to the member of etcd that it asks for, which has to be one
// of the endpoints, and copies until both ends are done. Where a member cannot be reached,
// the enclave is informed, and goes to another one.
func ProxyEtcd(ctx context.Context, conn vsock.Conn, endpoints []string) error {
	conn.SetDeadline(time.Now().Add(helloTimeout))
	hello, err := hostlink.ReadEtcdHello(conn)
	if err != nil {
		return err
	}
	if !slices.Contains(endpoints, "https://"+hello.Address) {
		err := fmt.Errorf("no member %.100q of etcd in the config", hello.Address)
		return errors.Join(err, hostlink.AnswerNode(conn, err))
	}
	outside, err := (&net.Dialer{Timeout: dial.Timeout}).DialContext(ctx, "tcp", hello.Address)
	answerErr := hostlink.AnswerNode(conn, err)
	if err != nil {
		return answerErr
	}
	defer outside.Close()
	if answerErr != nil {
		return answerErr
	}
	conn.SetDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { outside.Close() })()
	return vsock.Pipe(conn, outside.(*net.TCPConn))
}

// maxKMS is how many connections to KMS an enclave has at once: it keeps one
// open, and opens keys one by one.
const maxKMS = 8

func (h *Host) kms(ctx context.Context, conn vsock.Conn) {
	if err := ProxyAWS(ctx, conn, h.KMS.Endpoint, h.life); err != nil {
		h.once.warn(h.Log, "the enclave's connection to KMS ended", err)
	}
}

func (h *Host) table(ctx context.Context, conn vsock.Conn) {
	if err := ProxyAWS(ctx, conn, h.DynamoDB.Endpoint, 0); err != nil {
		h.once.warn(h.Log, "the enclave's connection to DynamoDB ended", err)
	}
}

func (h *Host) role(ctx context.Context, conn vsock.Conn) {
	if err := AnswerRole(ctx, conn, h.DynamoDB.Role); err != nil {
		h.once.warn(h.Log, "the enclave has no credentials for DynamoDB", err)
	}
}

// AnswerRole gives the enclave the credentials that it asks for, and returns why it cannot.
func AnswerRole(ctx context.Context, conn vsock.Conn, role Role) error {
	conn.SetDeadline(time.Now().Add(helloTimeout))
	hello, err := hostlink.ReadRoleHello(conn)
	if err != nil {
		return err
	}
	c, err := role.Credentials(ctx)
	if err == nil && hello.Refused != "" && hello.Refused == c.AccessKeyID {
		role.Refused(c)
		c, err = role.Credentials(ctx)
	}
	conn.SetDeadline(time.Now().Add(helloTimeout)) // the look may have taken that long
	return errors.Join(err, hostlink.AnswerRole(conn, c, err))
}

// ProxyAWS copies between a connection of the enclave and a service of its policy until both
// ends are done, for at most life; 0 is without end. There is nothing that the enclave could say to be connected
// elsewhere; TLS ends inside. Image and policy may be anybody's, so the address is
// looked at once more when the name is resolved.
func ProxyAWS(ctx context.Context, conn vsock.Conn, target policy.Endpoint, life time.Duration) error {
	d := net.Dialer{Timeout: dial.Timeout, Control: func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err == nil {
			err = target.Allows(a)
		}
		if err != nil {
			return &refusedAddress{err}
		}
		return nil
	}}
	outside, err := d.DialContext(ctx, "tcp", target.Address)
	if refused, ok := errors.AsType[*refusedAddress](err); ok {
		return fmt.Errorf("the enclave is not connected to the %s of its policy, %s: %w", target.Service, target.Address, refused.error)
	}
	if err != nil {
		return fmt.Errorf("cannot reach %s: %w; is this instance allowed to reach %s?", target.Service, err, target.Address)
	}
	defer outside.Close()
	defer context.AfterFunc(ctx, func() { outside.Close() })()
	if life != 0 {
		end := time.Now().Add(life)
		if err := errors.Join(conn.SetDeadline(end), outside.SetDeadline(end)); err != nil {
			return err
		}
	}
	// An idle connection that reached its end need not be reported.
	if err := vsock.Pipe(conn, outside.(*net.TCPConn)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !isEnd(err) {
		return fmt.Errorf("lost the connection to %s at %s: %w", target.Service, target.Address, err)
	}
	return nil
}

// refusedAddress is one that a service of AWS is not at.
type refusedAddress struct{ error }
