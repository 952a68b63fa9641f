// Package vault is the provider whose keys a HashiCorp Vault or OpenBao server signs
// with: what the operator has of it.
package vault

import (
	"fmt"

	"privyseal/internal/config"
	"privyseal/internal/key/vault"
	"privyseal/internal/provider"
)

// table is the first name of [vault.NAME], and the key by which a chain names one.
const table = "vault"

// Server is one server, and our login there. Paths are relative to the folder of the
// config file.
type Server struct {
	Address, CAFile, ServerName string
	AllowPlainHTTP              bool
	Namespace, Mount            string
	TokenFile                   string // in place of the next two
	RoleID, SecretIDFile        string
	AppRoleMount                string
	Timeout                     config.Duration // of one request
}

// options are the keys of [vault.NAME].
var options = config.Options[Server]{
	{Name: "address", Of: func(s *Server) any { return &s.Address }, Required: true, Comment: "https://HOST:PORT of the server"},
	{Name: "allow_plain_http", Of: func(s *Server) any { return &s.AllowPlainHTTP }, Comment: "accept http:// beyond loopback: anybody on the network path can read the token and sign with the key"},
	{Name: "ca_file", Of: func(s *Server) any { return &s.CAFile }, Path: true, Example: "vault-ca.pem", Comment: "PEM file of the only root certificates to trust; default: those of the system"},
	{Name: "server_name", Of: func(s *Server) any { return &s.ServerName }, Example: "vault.example.com", Comment: "name in the server's certificate; default: the address's host"},
	{Name: "namespace", Of: func(s *Server) any { return &s.Namespace }, Comment: "namespace of the engine"},
	{Name: "mount", Of: func(s *Server) any { return &s.Mount }, Standard: vault.DefaultMount, Example: vault.DefaultMount, Comment: "path of the transit engine"},
	{Name: "token_file", Of: func(s *Server) any { return &s.TokenFile }, Path: true, Comment: "file with a token, mode 0600; a new token in it needs no restart"},
	{Name: "role_id", Of: func(s *Server) any { return &s.RoleID }, Comment: "role id of an AppRole, in place of a token"},
	{Name: "secret_id_file", Of: func(s *Server) any { return &s.SecretIDFile }, Path: true, Comment: "file with the AppRole's secret id, mode 0600"},
	{Name: "approle_mount", Of: func(s *Server) any { return &s.AppRoleMount }, Standard: vault.DefaultAppRoleMount, Comment: "path of the AppRole auth method"},
	{Name: "timeout", Of: func(s *Server) any { return &s.Timeout }, Standard: vault.DefaultTimeout.String(), Example: vault.DefaultTimeout.String(), Comment: "for one request, up to 2s; a signature takes two at most"},
}

// Kind is what a config has of Vault servers.
func Kind() config.Kind {
	return config.Kind{Table: table, Noun: "a Vault server", Keys: options.Keys(), Decode: decode}
}

func decode(values map[string]any, fail func(key, wrong string)) config.Section {
	s := &Server{}
	options.Decode(s, values, fail)
	return s
}

// Fill implements [config.Section].
func (s *Server) Fill(written func(key string) bool) { options.Fill(s, written) }

// Check implements [config.Section].
func (s *Server) Check(written func(key string) bool, fail func(key, wrong string)) {
	switch {
	case !options.Check(s, written, fail):
	case s.Timeout.Duration == 0:
		fail("timeout", "is not above 0")
	case written("approle_mount") && s.RoleID == "":
		fail("approle_mount", "goes with role_id and secret_id_file")
	default:
		s.client(func(path string) string { return path }).Check(fail)
	}
}

// client returns what a client of the server needs. path returns where a path of the
// config lies.
func (s *Server) client(path func(string) string) vault.Config {
	at := *s
	options.Paths(&at, func(p string) (string, error) { return path(p), nil })
	return vault.Config{
		Address: at.Address, AllowPlain: at.AllowPlainHTTP, CAFile: at.CAFile, ServerName: at.ServerName,
		Namespace: at.Namespace, Mount: at.Mount, TokenFile: at.TokenFile,
		AppRole: vault.AppRole{Mount: at.AppRoleMount, RoleID: at.RoleID, SecretIDFile: at.SecretIDFile},
		Timeout: at.Timeout.Duration, Credentials: provider.Credentials(),
	}
}

// Secret implements [config.Section]: the secrets are in files of their own.
func (s *Server) Secret() (key string, secret bool) { return options.Secret(s) }

// Render implements [config.Section].
func (s *Server) Render(w *config.Lines) { options.Render(s, w) }

// serverOf returns the server of a chain. The config was checked, so that there is one.
func serverOf(c *config.Config, ch config.Chain) (*Server, error) {
	if s, ok := c.Tables[table][ch.Table].(*Server); ok {
		return s, nil
	}
	return nil, fmt.Errorf("there is no [%s.%s]", table, ch.Table)
}
