package hostlink

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"privyseal/internal/secret"
)

// A request shows credentials to the enclave, and to no log.
func TestCredentialsAreNotLogged(t *testing.T) {
	c := Credentials{AccessKeyID: "AKID", SecretAccessKey: secret.New("s3cr3t"), SessionToken: secret.New("s3cr3t")}
	boot := Boot{Credentials: c}
	r := Request{Boot: &boot}
	for _, v := range []any{c, &c, boot, &boot, r, &r} {
		var out bytes.Buffer
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(h).Info("a", "v", v, slog.Group("g", slog.Any("v", v)))
		}
		fmt.Fprintf(&out, "%v %+v %#v %s", v, v, v, v)
		if bytes.Contains(out.Bytes(), []byte("s3cr3t")) {
			t.Errorf("%T: %s", v, &out)
		}
	}
}
