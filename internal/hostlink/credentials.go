package hostlink

import (
	"encoding/json"
	"log/slog"
	"time"

	"privyseal/internal/secret"
	"privyseal/internal/strictjson"
)

// Credentials let the enclave call KMS. They are the host's own, and worth nothing
// without an attestation document of this image. Only the JSON of a request shows them.
type Credentials secret.AWS

// wireCredentials are Credentials in a request.
type wireCredentials struct {
	AccessKeyID     string    `json:"access_key_id"`
	SecretAccessKey string    `json:"secret_access_key"`
	SessionToken    string    `json:"session_token,omitempty"`
	Expires         time.Time `json:"expires,omitzero"`
}

// MarshalJSON shows the secrets.
func (c Credentials) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireCredentials{c.AccessKeyID, c.SecretAccessKey.Reveal(), c.SessionToken.Reveal(), c.Expires})
}

// LogValue is what slog logs: whose they are. A log in JSON would have them all.
func (c Credentials) LogValue() slog.Value {
	return slog.StringValue("credentials of " + c.AccessKeyID)
}

// UnmarshalJSON hides them.
func (c *Credentials) UnmarshalJSON(data []byte) error {
	var w wireCredentials
	if err := strictjson.Decode(data, &w); err != nil {
		return err
	}
	*c = Credentials{w.AccessKeyID, secret.New(w.SecretAccessKey), secret.New(w.SessionToken), w.Expires}
	return nil
}
