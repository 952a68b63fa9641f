package awscredentials

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/secret"
)

// isolated makes the SDK see nothing of this machine.
func isolated(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
}

func TestChain(t *testing.T) {
	source := Chain{Region: "eu-central-1", Cure: "attach to the instance a role"}
	t.Run("environment", func(t *testing.T) {
		isolated(t)
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIA-ENV")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
		t.Setenv("AWS_SESSION_TOKEN", "token")
		c, err := source.Credentials(t.Context())
		want := secret.AWS{AccessKeyID: "AKIA-ENV", SecretAccessKey: secret.New("secret"), SessionToken: secret.New("token")}
		if diff := cmp.Diff(want, c); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	})
	t.Run("shared file, also after it was rotated", func(t *testing.T) {
		isolated(t)
		path := filepath.Join(t.TempDir(), "credentials")
		t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
		for _, id := range []string{"AKIA-ONE", "AKIA-TWO"} {
			text := "[default]\naws_access_key_id = " + id + "\naws_secret_access_key = secret\n"
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := source.Credentials(t.Context())
			if err != nil || c.AccessKeyID != id || !c.Expires.IsZero() {
				t.Errorf("%s: %+v, %v", id, c.AccessKeyID, err)
			}
		}
	})
	t.Run("the role of the instance, IMDSv2", func(t *testing.T) {
		isolated(t)
		expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		metadata(t, true, expires)
		c, err := source.Credentials(t.Context())
		want := secret.AWS{AccessKeyID: "ASIA-ROLE", SecretAccessKey: secret.New("secret"), SessionToken: secret.New("token"), Expires: expires}
		if diff := cmp.Diff(want, c); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	})
	t.Run("no fall back to IMDSv1", func(t *testing.T) {
		isolated(t)
		asked := metadata(t, false, time.Now().Add(time.Hour))
		if _, err := source.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), "attach to the instance a role") {
			t.Errorf("%v", err)
		}
		if n := asked.Load(); n > 0 {
			t.Errorf("IMDSv1 was asked %d times", n)
		}
	})
}

// metadata plays the instance's metadata service. It returns how often it was
// asked without a token.
func metadata(t *testing.T, v2 bool, expires time.Time) *atomic.Int64 {
	tokenless := new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && v2:
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
			io.WriteString(w, "the-token")
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusForbidden)
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "the-token":
			tokenless.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			io.WriteString(w, "role")
		case strings.HasSuffix(r.URL.Path, "/security-credentials/role"):
			json.NewEncoder(w).Encode(map[string]any{
				"Code": "Success", "AccessKeyId": "ASIA-ROLE", "SecretAccessKey": "secret", "Token": "token", "Expiration": expires, "LastUpdated": time.Now(),
			})
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", s.URL)
	return tokenless
}
