package yubihsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultConnector is where yubihsm-connector listens unless it is configured otherwise.
const DefaultConnector = "http://127.0.0.1:12345"

// exchangeTimeout bounds a message whose context has no end, or a later one: the connector
// itself waits for the device without end. The slowest command, the generation of an RSA key of
// 4096 bits, takes a device up to two minutes.
const exchangeTimeout = 3 * time.Minute

const maxStatus = 4096 // bytes of a status page, a few lines

// Connector is the transport through yubihsm-connector, Yubico's program that has the
// device on its USB and takes messages over HTTP from anybody who can reach it. It is safe
// for concurrent use.
type Connector struct {
	base   string
	client *http.Client
}

// NewConnector returns the transport to a connector: "http://HOST:PORT", or https if
// something in front of it has TLS under a root of the system. No proxy is used, no redirect
// followed. Nothing is sent yet.
func NewConnector(address string) (*Connector, error) {
	u, err := url.Parse(address)
	switch {
	case strings.Contains(address, "@"): // and what may be a password is not printed
		return nil, errors.New("an address of a YubiHSM connector has no user and no password: http://HOST:PORT")
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", strings.Trim(u.Path, "/") != "", u.RawQuery != "", u.Fragment != "", !isPort(u.Port()):
		return nil, fmt.Errorf("%.100q is not an address of a YubiHSM connector, which is http://HOST:PORT", address)
	}
	return &Connector{u.Scheme + "://" + u.Host, &http.Client{
		Transport: &http.Transport{
			DisableCompression:     true,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// isPort reports whether a port, "" for the scheme's own, is one that can be dialled.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// String returns the connector's address.
func (c *Connector) String() string { return c.base }

// Exchange implements [Transport]: POST /connector/api, with the messages as bodies. A
// connector without a device answers 5xx, which is a [*ConnectorError].
func (c *Connector) Exchange(ctx context.Context, message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/connector/api", bytes.NewReader(message))
	if err != nil {
		return nil, &ConnectorError{Address: c.base, Cause: err, Unsent: true}
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	return c.do(request, MaxMessage)
}

// do returns the body of an answer of at most so many bytes.
func (c *Connector) do(request *http.Request, most int64) ([]byte, error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	response, err := c.client.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	if err != nil {
		return nil, &ConnectorError{Address: c.base, Cause: withoutURL(err), Unsent: !connected.Load()}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		io.CopyN(io.Discard, response.Body, maxStatus) // so that the connection is used again
		return nil, &ConnectorError{Address: c.base, Status: response.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err == nil && int64(len(body)) > most {
		err = malformed("more than %d bytes", most)
	}
	if err != nil {
		return nil, &ConnectorError{Address: c.base, Cause: err}
	}
	return body, nil
}

// Close closes idle connections to the connector.
func (c *Connector) Close() error {
	c.client.CloseIdleConnections()
	return nil
}

// ConnectorError is a message that a connector did not bring to its device, or whose answer
// did not come back.
type ConnectorError struct {
	Address string
	// Status is the HTTP status, if an answer came; 5xx from a connector without a device.
	Status int
	// Cause is why no answer came, nil if one did.
	Cause error
	// Unsent says that there was no connection to the connector: the message cannot have
	// reached the device.
	Unsent bool
}

// Error implements error.
func (e *ConnectorError) Error() string {
	switch {
	case e.Status >= 500:
		return fmt.Sprintf("the YubiHSM connector at %s reaches no device (HTTP status %d)", e.Address, e.Status)
	case e.Cause == nil:
		return fmt.Sprintf("what answers at %s is not a YubiHSM connector (HTTP status %d)", e.Address, e.Status)
	}
	return fmt.Sprintf("no answer from the YubiHSM connector at %s: %s", e.Address, why(e.Cause))
}

// why says why no answer came.
func why(cause error) string {
	if errors.Is(cause, context.DeadlineExceeded) {
		return "it took too long"
	}
	return fmt.Sprint(cause)
}

// Unwrap returns the cause.
func (e *ConnectorError) Unwrap() error { return e.Cause }

// withoutURL returns an error of net/http without the address, which ours has already.
func withoutURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

// ConnectorStatus is what a connector says about itself. Nothing authenticates it.
type ConnectorStatus struct {
	// Device says that the connector has a device ("status=OK").
	Device bool
	// Serial is the serial number that the connector is to use, "" or "*" for any.
	Serial string
	// Version is the connector's own.
	Version string
}

// Status returns what GET /connector/status says: lines KEY=VALUE. A page without a line
// "status=" is an error, because it is not a connector's.
func (c *Connector) Status(ctx context.Context) (ConnectorStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/connector/status", nil)
	if err != nil {
		return ConnectorStatus{}, &ConnectorError{Address: c.base, Cause: err}
	}
	page, err := c.do(request, maxStatus)
	if err != nil {
		return ConnectorStatus{}, err
	}
	status, err := parseStatus(string(page))
	if err != nil {
		return ConnectorStatus{}, &ConnectorError{Address: c.base, Cause: err}
	}
	return status, nil
}

func parseStatus(page string) (s ConnectorStatus, err error) {
	values := map[string]string{}
	for line := range strings.Lines(page) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "="); ok {
			values[key] = value
		}
	}
	status, ok := values["status"]
	if !ok {
		return s, malformed("a status page without a status")
	}
	return ConnectorStatus{status == "OK", values["serial"], values["version"]}, nil
}
