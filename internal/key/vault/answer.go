package vault

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"privyseal/internal/strictjson"
)

// answer is what came back, whatever its status.
type answer struct {
	status int
	body   []byte
}

// login is an answer with a token.
type login struct {
	Auth struct {
		ClientToken   string `json:"client_token"`
		LeaseDuration int64  `json:"lease_duration"` // seconds
		Renewable     bool   `json:"renewable"`
	} `json:"auth"`
}

// signAnswer is what the server says to a signRequest.
type signAnswer struct {
	Data struct {
		Signature  string `json:"signature"`   // vault:vVERSION:BASE64
		KeyVersion int    `json:"key_version"` // 0 from servers that do not say
	} `json:"data"`
}

// signature returns the signature of a version of the key.
func (a *signAnswer) signature(version int) ([]byte, error) {
	text, ok := strings.CutPrefix(a.Data.Signature, fmt.Sprintf("vault:v%d:", version))
	if !ok || a.Data.KeyVersion != 0 && a.Data.KeyVersion != version {
		return nil, fmt.Errorf("it is not a signature of version %d of the key", version)
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(text)
	// The decoder skips line feeds.
	if err != nil || len(signature) != ed25519.SignatureSize || len(text) != base64.StdEncoding.EncodedLen(len(signature)) {
		return nil, fmt.Errorf("a signature has %d bytes in base64, this one does not", ed25519.SignatureSize)
	}
	return signature, nil
}

// decode reads the data of an answer, or all of it where out is a *login or a
// *signAnswer. Fields that are not in out are ignored: each version adds some.
func decode(body []byte, out any) error {
	switch all := out.(type) {
	case *signAnswer:
		// Of two signatures in one answer either will do: it is verified. Looking for a
		// second one takes longer than anything else here.
		return json.Unmarshal(body, all)
	case *login:
		return strictjson.Unmarshal(body, all)
	}
	var whole struct {
		Data json.RawMessage `json:"data"`
	}
	if err := strictjson.Unmarshal(body, &whole); err != nil {
		return err
	}
	if len(whole.Data) == 0 || whole.Data[0] != '{' {
		return errors.New("no data")
	}
	return json.Unmarshal(whole.Data, out)
}
