package policy

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

// What nothing could ever meet is refused, by the key that holds it.
func TestImpossibleValues(t *testing.T) {
	const long = "a-name-that-is-longer-than-the-sixty-three-bytes-of-a-dns-label-x"
	for key, values := range map[string][]string{
		"kms_key": {"", "arn:aws:kms:s3.us-east-1:111122223333:key/x", "arn:aws:kms:EU-central-1:111122223333:key/x", "arn:aws:kms:eu-central-1:11112222333x:key/x", "arn:aws:kms:eu-central-1:111122223333:key/", "arn:aws:kms:eu-central-1:111122223333:key/a/b", "arn:awsome:kms:eu-central-1:111122223333:key/x", "alias/validator", "arn:aws:kms:eu-central-1:111122223333:alias/validator"},
		"kms_endpoint": {
			"", "foo", "https://foo", "https://foo:443", "foo:443/", " foo:443", "foo:443:443", "foo:", "foo:https", "foo:0", "foo:65979", "foo:+443", "foo:0443",
			":443", "foo..bar:443", "-foo:443", "foo-:443", "foo_bar:443", "10.0.1:443", "256.0.0.1:443", "0.0.0.0:443", "[::]:443", "[fe80::1%eth0]:443", "::1:443", long + ":443",
			"169.254.169.254:443", "169.254.169.254:80", "[fd00:ec2::254]:80", "[::ffff:169.254.169.254]:80",
		},
		"kms_server_name": {"", "a..b", ".a", "a.", "-a", "a-", "a:443", "https://a", "*.a", "a b", "10.0.0.1", "::1", "a\n", long, strings.Repeat("kms.", 80) + "a"},
		"chains":          {"", "a chain", "chain/1", ".chain", "chain\n", strings.Repeat("c", 51)},
		"public_keys": {
			"", "garbage", "AAAA", // too short
			"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", // hex, which is base64 too
			"AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",                     // no point
			"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=",                     // base64url
			"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo",                      // without its end
			"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURp=",                     // loose bits
			"11qYAYKxCrfVS/7TyWQH\nOg7hcvPapiMlrwIaaPcHURo=",                   // a line end
			" 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
			secp256k1Key, // no enclave signs with one
		},
		"state_floor":       {"", "a chain"},
		"etcd_server_names": {"", "*.etcd.test", "etcd.test:2379", "https://etcd.test", "10.0.0.1/8", "010.0.0.1", "fe80::1%eth0", "::0001", "etcd.test"},
		"etcd_cluster_id":   {"", "cdf818194e3a8c3", "cdf818194e3a8c321", "CDF818194E3A8C32", "cdf818194e3a8c3x", "0000000000000000", "14841639068965178418"},
		"etcd_prefix":       {"", "/", "privyseal", "/privyseal/", "/a//b", "/a b", "/\u00e9", "/a\n", "/" + strings.Repeat("a", 101)},
	} {
		for _, v := range values {
			p := full(t)
			set(p, key, v)
			_, err := p.Encode()
			var k *KeyError
			if !errors.As(err, &k) || k.Key != key {
				t.Errorf("%s %q: %v", key, v, err)
			}
		}
	}
}

// secp256k1Key is the base point of that curve.
const secp256k1Key = "Anm+Zn753LusVaBilc6HCwcCm/zbLc4o2VnygVsW+BeY"

func set(p *Policy, key, value string) {
	switch key {
	case "kms_key":
		p.KMSKey = value
	case "kms_endpoint":
		p.KMSEndpoint = value
	case "kms_server_name":
		p.KMSServerName = value
	case "chains":
		p.Chains = []string{"chain-1", value}
	case "public_keys":
		p.PublicKeys = []string{publicKey, value}
	case "state_floor":
		p.StateFloor = map[string]int64{"chain-1": 1, value: 1}
	case "etcd_server_names":
		p.ServerNames = []string{"etcd.test", value}
	case "etcd_cluster_id":
		p.ClusterID = value
	case "etcd_prefix":
		p.Prefix = value
	}
}

func TestPossibleValues(t *testing.T) {
	for key, values := range map[string][]string{
		"kms_endpoint":      {"kms.eu-central-1.amazonaws.com:443", "vpce-1a2b.kms.eu-central-1.vpce.amazonaws.com:443", "10.0.0.1:8443", "[::1]:65535", "localhost:1", "3com.example:443"},
		"kms_server_name":   {"kms.eu-central-1.amazonaws.com", "kms.us-iso-east-1.c2s.ic.gov", "kms.test", "KMS.TEST", "kms"},
		"public_keys":       {publicKey},
		"etcd_server_names": {"10.0.0.2", "::1", "localhost"},
		"etcd_prefix":       {"/a/b", "/" + strings.Repeat("a", 100)},
	} {
		for _, v := range values {
			p := full(t)
			set(p, key, v)
			if _, err := p.Encode(); err != nil {
				t.Errorf("%v", err)
			}
		}
	}
}

// A floor is for a chain that is signed for, and leaves heights to sign.
func TestFloors(t *testing.T) {
	for _, c := range []struct {
		chains     []string
		max, floor int64
		fine       bool
	}{
		{nil, 0, 5, true},
		{[]string{"chain-1"}, 0, 5, true},
		{[]string{"chain-2"}, 0, 5, false},
		{nil, 6, 5, true},
		{nil, 5, 5, false},
		{nil, 4, 5, false},
	} {
		p := full(t)
		p.Chains, p.MaxHeight, p.StateFloor = c.chains, c.max, map[string]int64{"chain-1": c.floor}
		_, err := p.Encode()
		var k *KeyError
		if c.fine && err != nil || !c.fine && (!errors.As(err, &k) || k.Key != "state_floor") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// An empty list would read as nobody, and mean anybody.
func TestEmptyList(t *testing.T) {
	for _, key := range []string{"chains", "public_keys"} {
		good, err := full(t).Encode()
		if err != nil {
			t.Fatal(err)
		}
		var file map[string]any
		if err := json.Unmarshal(good, &file); err != nil {
			t.Fatal(err)
		}
		file[key] = []string{}
		bad, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		var k *KeyError
		if _, err := Parse(bad, Nitro); !errors.As(err, &k) || k.Key != key {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// What stands as a certificate is one.
func TestRootsAreCertificates(t *testing.T) {
	block, _ := pem.Decode([]byte(AWSRoots()))
	good := pem.EncodeToMemory(block)
	garbage := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1, 2, 3}})
	cut := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes[:len(block.Bytes)-1]})
	for name, c := range map[string]struct {
		text []byte
		ok   bool
	}{
		"a certificate": {good, true}, "two": {append(bytes.Clone(good), good...), true}, "garbage": {garbage, false}, "cut off": {cut, false},
		"garbage behind one": {append(bytes.Clone(good), garbage...), false}, "nothing": {nil, false},
	} {
		if err := checkPEM(string(c.text)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
