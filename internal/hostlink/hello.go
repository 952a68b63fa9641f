package hostlink

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"privyseal/internal/secret"
	"privyseal/internal/strictjson"
)

func decodeStrict(payload []byte, v any) error {
	if err := strictjson.Decode(payload, v); err != nil {
		return fmt.Errorf("malformed message: %w", err)
	}
	return nil
}

// NodeHello is the first frame of a connection to NodePort: which node, by
// chain id and name. The host answers with a frame that is empty, or says why
// not; then the bytes of the node follow.
type NodeHello struct {
	ChainID string `json:"chain_id"`
	Node    string `json:"node"`
}

// OpenNode asks the host on conn to connect it to a node.
func OpenNode(conn io.ReadWriter, hello NodeHello) error { return openHello(conn, hello) }

func openHello(conn io.ReadWriter, hello any) error {
	payload, err := json.Marshal(hello)
	if err != nil {
		return err
	}
	if err := writeFrame(conn, payload); err != nil {
		return err
	}
	answer, err := readFrame(conn, 1024)
	if err != nil {
		return fmt.Errorf("the host does not connect us: %w", err)
	}
	if len(answer) > 0 {
		return fmt.Errorf("the host says: %.1024q", answer)
	}
	return nil
}

// ReadNodeHello reads the first frame of a connection to NodePort.
func ReadNodeHello(r io.Reader) (hello NodeHello, err error) {
	payload, err := readFrame(r, 1024)
	if err != nil {
		return hello, err
	}
	return hello, decodeStrict(payload, &hello)
}

// AnswerNode answers a NodeHello or an EtcdHello: nil for a connection that was made.
func AnswerNode(w io.Writer, err error) error {
	if err == nil {
		return writeFrame(w, nil)
	}
	text := err.Error()
	return writeFrame(w, []byte(text[:min(len(text), 512)]))
}

// EtcdHello is the first frame of a connection to EtcdPort: which member, as host:port. The
// host answers as it does to a NodeHello; then the bytes of the member follow.
type EtcdHello struct {
	Address string `json:"address"`
}

// OpenEtcd asks the host on conn to connect it to a member of etcd.
func OpenEtcd(conn io.ReadWriter, hello EtcdHello) error { return openHello(conn, hello) }

// ReadEtcdHello reads the first frame of a connection to EtcdPort.
func ReadEtcdHello(r io.Reader) (hello EtcdHello, err error) {
	payload, err := readFrame(r, 1024)
	if err != nil {
		return hello, err
	}
	return hello, decodeStrict(payload, &hello)
}

// RoleHello is the first frame of a connection to RolePort: the enclave asks with which
// credentials it may call DynamoDB.
type RoleHello struct {
	// Refused is the access key id of those that AWS has refused, if it has.
	Refused string `json:"refused,omitempty"`
}

// RoleAnswer answers it, and is the last frame.
type RoleAnswer struct {
	Error       string       `json:"error,omitempty"`
	Credentials *Credentials `json:"credentials,omitempty"`
}

// maxRole bounds a RoleAnswer in bytes: a session token has a few hundred, and AWS names no
// bound.
const maxRole = 32 << 10

// AskRole asks the host on conn for credentials.
func AskRole(conn io.ReadWriter, hello RoleHello) (c secret.AWS, err error) {
	payload, err := json.Marshal(hello)
	if err == nil {
		err = writeFrame(conn, payload)
	}
	if err != nil {
		return c, err
	}
	if payload, err = readFrame(conn, maxRole); err != nil {
		return c, fmt.Errorf("the host gives no credentials: %w", err)
	}
	var answer RoleAnswer
	switch err := decodeStrict(payload, &answer); {
	case err != nil:
		return c, err
	case answer.Credentials == nil:
		return c, fmt.Errorf("the host has no credentials: %.1024q", answer.Error)
	}
	return secret.AWS(*answer.Credentials), nil
}

// ReadRoleHello reads the first frame of a connection to RolePort.
func ReadRoleHello(r io.Reader) (hello RoleHello, err error) {
	payload, err := readFrame(r, 1024)
	if err != nil {
		return hello, err
	}
	return hello, decodeStrict(payload, &hello)
}

// AnswerRole answers a RoleHello.
func AnswerRole(w io.Writer, c secret.AWS, err error) error {
	answer := RoleAnswer{Credentials: (*Credentials)(&c)}
	if err != nil {
		answer = RoleAnswer{Error: strings.ToValidUTF8(err.Error()[:min(len(err.Error()), 1024)], "")}
	}
	payload, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return writeFrame(w, payload)
}
