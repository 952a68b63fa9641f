package sgxhost

import (
	"fmt"
	"os"
	"path/filepath"

	"privyseal/internal/cure"
	"privyseal/internal/shell"
)

// The files of an enclave, in one folder. Gramine finds them by Name.
const (
	Name          = "privyseal"
	SignatureFile = Name + ".sig"
	ManifestFile  = Name + ".manifest"
	SignedFile    = Name + ".manifest.sgx"
	ProgramFile   = "privyseal-sgx"
)

// Missing says which file of an enclave is not in a folder, with what makes it; nil if all are
// there.
func Missing(folder string) error {
	for _, f := range []struct{ name, next string }{
		{ProgramFile, "make it with `privyseal sgx manifest`"},
		{ManifestFile, "make it with `privyseal sgx manifest`"},
		{SignedFile, ""}, {SignatureFile, ""},
	} {
		_, err := os.Stat(filepath.Join(folder, f.name))
		if err == nil {
			continue
		}
		err = fmt.Errorf("the enclave in %s is not complete: %w", folder, err)
		if f.next == "" {
			return cure.Add(err, "sign it: `%s`", SignCommand(folder))
		}
		return cure.Add(err, "%s", f.next)
	}
	return nil
}

// SignCommand returns what signs an enclave: in its folder, since a manifest names its files
// from there. The date is left at zero, so that the same enclave has the same signature.
func SignCommand(folder string) string {
	return fmt.Sprintf(`(cd %s && gramine-sgx-sign --manifest %s --output %s --key "$OLDPWD/enclave-key.pem" --date 0000-00-00)`, shell.File(folder), ManifestFile, SignedFile)
}
