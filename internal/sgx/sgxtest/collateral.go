package sgxtest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"time"
)

// list returns what an issuer has revoked, in DER.
func (i *Intel) list(issuer string) ([]byte, error) {
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: i.Now.Add(-time.Hour), NextUpdate: i.Now.AddDate(0, 0, 30)}
	for _, name := range i.Revoked {
		c, err := x509.ParseCertificate(i.certs[name])
		if err != nil {
			return nil, err
		}
		if c.Issuer.CommonName == issuer {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: l.ThisUpdate})
		}
	}
	if i.OnList != nil {
		i.OnList(issuer, l)
	}
	by, err := x509.ParseCertificate(i.certs[issuer])
	if err != nil {
		return nil, err
	}
	by.KeyUsage |= x509.KeyUsageCRLSign // else the library refuses to sign
	return x509.CreateRevocationList(rand.Reader, l, by, i.keys[issuer])
}

// Collateral returns what it takes to verify the quotes of enclaves, in one JSON file.
func (i *Intel) Collateral() ([]byte, error) { return i.collateral("SGX", "QE", qeProduct) }

// TDCollateral returns the same for trust domains.
func (i *Intel) TDCollateral() ([]byte, error) { return i.collateral("TDX", "TD_QE", tdQEProduct) }

func (i *Intel) collateral(tee, qe string, product uint16) ([]byte, error) {
	if err := i.issue(); err != nil {
		return nil, err
	}
	rootList, err := i.list(Root)
	if err != nil {
		return nil, err
	}
	pckList, err := i.list(i.CA)
	if err != nil {
		return nil, err
	}
	info, infoSignature, err := i.text(TCBInfo, i.tcbInfo(tee))
	if err != nil {
		return nil, err
	}
	identity, identitySignature, err := i.text(QEIdentity, i.qeIdentity(qe, product))
	if err != nil {
		return nil, err
	}
	chain := string(i.pem(TCBSigning, Root))
	return json.MarshalIndent(map[string]string{
		"pck_crl_issuer_chain": string(i.pem(i.CA, Root)), "root_ca_crl": hex.EncodeToString(rootList), "pck_crl": hex.EncodeToString(pckList),
		"tcb_info_issuer_chain": chain, "tcb_info": info, "tcb_info_signature": infoSignature,
		"qe_identity_issuer_chain": chain, "qe_identity": identity, "qe_identity_signature": identitySignature,
	}, "", "  ")
}

// text encodes and signs what the service says.
func (i *Intel) text(name string, members map[string]any) (text, signature string, err error) {
	if i.OnText != nil {
		i.OnText(name, members)
	}
	b, err := json.Marshal(members)
	if err != nil {
		return "", "", err
	}
	s, err := sign(i.keys[TCBSigning], b)
	return string(b), hex.EncodeToString(s), err
}

func (i *Intel) head(id string, version int) map[string]any {
	return map[string]any{
		"id": id, "version": version, "issueDate": i.Now.Add(-time.Hour).Format(time.RFC3339), "nextUpdate": i.Now.AddDate(0, 0, 30).Format(time.RFC3339),
		"tcbEvaluationDataNumber": i.Evaluation,
	}
}

func (i *Intel) tcbInfo(tee string) map[string]any {
	m := i.head(tee, 3)
	m["fmspc"], m["pceId"], m["tcbType"] = fmt.Sprintf("%X", i.FMSPC), "0000", 0
	var levels []any
	for _, l := range i.Levels {
		tcb := map[string]any{"sgxtcbcomponents": components(l.CPUSVN), "pcesvn": l.PCESVN}
		if tee == "TDX" {
			tcb["tdxtcbcomponents"] = components(l.TDX)
		}
		levels = append(levels, l.json(tcb))
	}
	m["tcbLevels"] = levels
	if tee != "TDX" {
		return m
	}
	module := func() map[string]any {
		return map[string]any{"mrsigner": fmt.Sprintf("%096d", 0), "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF"}
	}
	modules := []any{}
	for name, levels := range i.Modules {
		one := module()
		one["id"], one["tcbLevels"] = name, bySVN(levels)
		modules = append(modules, one)
	}
	m["tdxModule"], m["tdxModuleIdentities"] = module(), modules
	return m
}

func components(svn [16]byte) (list []any) {
	for _, n := range svn {
		list = append(list, map[string]any{"svn": n})
	}
	return list
}

func bySVN(levels []Level) (list []any) {
	for _, l := range levels {
		list = append(list, l.json(map[string]any{"isvsvn": l.SVN}))
	}
	return list
}

func (l Level) json(tcb map[string]any) map[string]any {
	m := map[string]any{"tcb": tcb, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": l.Status}
	if len(l.Advisories) > 0 {
		m["advisoryIDs"] = l.Advisories
	}
	return m
}

func (i *Intel) qeIdentity(id string, product uint16) map[string]any {
	m := i.head(id, 2)
	m["miscselect"], m["miscselectMask"] = "00000000", "FFFFFFFF"
	m["attributes"], m["attributesMask"] = fmt.Sprintf("11%030d", 0), "FBFFFFFFFFFFFFFF0000000000000000"
	m["mrsigner"], m["isvprodid"] = fmt.Sprintf("%X", sha256.Sum256([]byte(Root))), product
	m["tcbLevels"] = bySVN(i.QELevels)
	return m
}
