// Package vault is the provider whose keys a HashiCorp Vault or OpenBao server signs
// with: what the operator has of it.
package vault

import (
	"cmp"
	"fmt"

	"privyseal/internal/config"
	"privyseal/internal/key/vault"
	"privyseal/internal/provider"
)

// table is the first name of [vault.NAME], and the key by which a chain names one.
const table = "vault"

// Server is one server, and who we are there. Paths are relative to the folder of the
// config file.
type Server struct {
	// Address is https://HOST[:PORT]. Required.
	Address string `toml:"address"`
	// AllowPlainHTTP lets the address be http:// where it is not a loopback address.
	// Default false: anybody on the way can read the token and sign with the key.
	AllowPlainHTTP bool `toml:"allow_plain_http"`
	// CAFile is a file of PEM certificates, the only ones that the server's may lead to.
	// Default: the system's.
	CAFile string `toml:"ca_file"`
	// ServerName is the name in the server's certificate. Default: the address's host.
	ServerName string `toml:"server_name"`
	// Namespace is sent with each call. Default: none.
	Namespace string `toml:"namespace"`
	// Mount is the path of the transit engine. Default transit.
	Mount string `toml:"mount"`
	// TokenFile is the path of a file with a token, mode 0600, which is read again when the
	// server no longer takes the token. Either it or the next two are required.
	TokenFile string `toml:"token_file"`
	// RoleID is the role id of an AppRole.
	RoleID string `toml:"role_id"`
	// SecretIDFile is the path of a file with the role's secret id, mode 0600.
	SecretIDFile string `toml:"secret_id_file"`
	// AppRoleMount is the path of the auth method. Default approle.
	AppRoleMount string `toml:"approle_mount"`
	// Timeout bounds one request; a signature takes two at most. Up to 2s, default 1s.
	Timeout config.Duration `toml:"timeout"`
}

// field is a key of [vault.NAME]. Config, its file and the flags of init follow from it.
type field struct {
	key string
	of  func(*Server) any // *string, *bool or *config.Duration
	// standard is what an absent key means; example stands in a comment while it is absent,
	// "" for no such comment.
	standard, example string
	help              string
}

var fields = []field{
	{"address", func(s *Server) any { return &s.Address }, "", "", "https://HOST:PORT of the server"},
	{"allow_plain_http", func(s *Server) any { return &s.AllowPlainHTTP }, "", "", "accept http:// beyond loopback: anybody on the way can read the token and sign with the key"},
	{"ca_file", func(s *Server) any { return &s.CAFile }, "", "vault-ca.pem", "PEM file of the only roots of the server's certificate; default: the system's"},
	{"server_name", func(s *Server) any { return &s.ServerName }, "", "vault.example.com", "name in the server's certificate; default: the address's host"},
	{"namespace", func(s *Server) any { return &s.Namespace }, "", "", "namespace of the engine"},
	{"mount", func(s *Server) any { return &s.Mount }, vault.DefaultMount, vault.DefaultMount, "path of the transit engine"},
	{"token_file", func(s *Server) any { return &s.TokenFile }, "", "", "file with a token, mode 0600; a new token in it needs no restart"},
	{"role_id", func(s *Server) any { return &s.RoleID }, "", "", "role id of an AppRole, in place of a token"},
	{"secret_id_file", func(s *Server) any { return &s.SecretIDFile }, "", "", "file with the AppRole's secret id, mode 0600"},
	{"approle_mount", func(s *Server) any { return &s.AppRoleMount }, vault.DefaultAppRoleMount, "", "path of the AppRole auth method"},
	{"timeout", func(s *Server) any { return &s.Timeout }, vault.DefaultTimeout.String(), vault.DefaultTimeout.String(), "for one request, up to 2s; a signature takes two at most"},
}

// Kind is what a config has of Vault servers.
func Kind() config.Kind {
	keys := make([]config.Key, len(fields))
	for i, f := range fields {
		keys[i] = config.Key{Name: f.key, Comment: f.help}
		switch f.of(&Server{}).(type) {
		case *string:
			keys[i].Type = "a string"
		case *bool:
			keys[i].Type = "true or false"
		case *config.Duration:
			keys[i].Type = "a duration"
		}
		switch {
		case f.key == "address":
			keys[i].Default = config.Required
		case keys[i].Type == "true or false":
			keys[i].Default = "false"
		case f.standard != "":
			keys[i].Default = config.Quote(f.standard)
		}
	}
	return config.Kind{Table: table, Noun: "a Vault server", Keys: keys, Decode: decode}
}

func decode(unmarshal func(any) error) (map[string]config.Section, error) {
	var file struct {
		Servers map[string]*Server `toml:"vault"`
	}
	err := unmarshal(&file)
	all := make(map[string]config.Section, len(file.Servers))
	for name, s := range file.Servers {
		all[name] = s
	}
	return all, err
}

// Fill implements [config.Section].
func (s *Server) Fill(written func(key string) bool) {
	if !written("mount") {
		s.Mount = vault.DefaultMount
	}
	if !written("approle_mount") {
		s.AppRoleMount = vault.DefaultAppRoleMount
	}
	if !written("timeout") {
		s.Timeout.Duration = vault.DefaultTimeout
	}
}

// Check implements [config.Section].
func (s *Server) Check(written func(key string) bool, fail func(key, wrong string)) {
	if !written("address") {
		fail("address", "is missing: https://HOST:PORT of the server")
		return
	}
	empty := false
	for _, f := range fields {
		if text, ok := f.of(s).(*string); ok && *text == "" && written(f.key) {
			fail(f.key, "is empty")
			empty = true
		}
	}
	switch {
	case empty:
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
	file := func(p string) string {
		if p == "" {
			return ""
		}
		return path(p)
	}
	return vault.Config{
		Address: s.Address, AllowPlain: s.AllowPlainHTTP, CAFile: file(s.CAFile), ServerName: s.ServerName,
		Namespace: s.Namespace, Mount: s.Mount, TokenFile: file(s.TokenFile),
		AppRole: vault.AppRole{Mount: s.AppRoleMount, RoleID: s.RoleID, SecretIDFile: file(s.SecretIDFile)},
		Timeout: s.Timeout.Duration, Credentials: provider.Credentials(),
	}
}

// Secret implements [config.Section]: the secrets are in files of their own.
func (s *Server) Secret() (key string, secret bool) { return "", false }

// Render implements [config.Section].
func (s *Server) Render(w *config.Lines) {
	for _, f := range fields {
		value, text := "", config.Quote
		switch v := f.of(s).(type) {
		case *string:
			value = *v
		case *config.Duration:
			if v.Duration != 0 {
				value = v.String()
			}
		case *bool:
			if text = func(s string) string { return s }; *v {
				value = "true"
			}
		}
		set := value != "" && value != f.standard
		if set || f.example != "" {
			w.Line(set, f.key, text(cmp.Or(value, f.example)))
		}
	}
}

// serverOf returns the server of a chain. The config was checked, so that there is one.
func serverOf(c *config.Config, ch config.Chain) (*Server, error) {
	if s, ok := c.Tables[table][ch.Table].(*Server); ok {
		return s, nil
	}
	return nil, fmt.Errorf("there is no [%s.%s]", table, ch.Table)
}
