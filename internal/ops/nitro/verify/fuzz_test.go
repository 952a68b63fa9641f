package verify

import (
	"testing"

	"privyseal/internal/claims"
)

// User data of tmkms-light's key generation come from anybody's enclave: what is
// taken for them names a key, and is fit for a terminal.
func FuzzLightClaims(f *testing.F) {
	f.Add([]byte(`{"pubkey":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=","key_id":"YWxpYXM="}`))
	f.Add([]byte(`{"pubkey":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=","key_id":"G1sySg=="}`))
	f.Add([]byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, ok := lightClaims(data)
		if ok && (c.PublicKey.IsZero() || !c.foreign || c.Ours || c.Claims.KMSKey == "" || !claims.Printable(c.Claims.KMSKey)) {
			t.Fatalf("%q is taken for %+v", data, c)
		}
	})
}
