// Package sgxseal is what an enclave of Intel SGX has in place of a KMS: it seals secrets
// under a key that the CPU derives for this program, or for its signer, and makes a backup of
// each for the holder of a recovery key. A CPU that breaks, a program that is built again and
// an update of microcode all change the CPU's key, so that without the backup a key would be
// lost on an ordinary day.
//
// It reads no files, asks nobody for anything, and knows nothing of what a key signs. What
// the CPU's key is, the boot hands in: 16 bytes of which only derivations are used.
//
// What is trusted: the CPU's key, the randomness of the system, and the policy that names the
// recipient of backups, which is measured. What is not: the host, which keeps all the files
// and hands in whichever it likes. It cannot exchange a part of one, since all of it is
// authenticated, and it cannot choose who opens a backup. It can make a backup of a key that
// it knows, as anybody can: what comes out of one is the caller's to compare with what he
// expects, and never counts as made inside.
package sgxseal
