// Package auditlog keeps what a YubiHSM has logged, beside what the signer has asked it to
// sign, and says which signatures nobody of ours has asked for.
//
// The log of a device has room for 62 entries. Each carries a digest over itself and the
// entry before. [Writer] appends them to files in a folder, SERIAL-NUMBER.log, one line an
// entry; each line carries a digest over itself and the line before, and each file begins
// with the digest that the one before ended with. What is in a file is never changed: after
// a crash that tears the last line, the next file begins.
//
// A device logs which key signed how many bytes for which authentication key, not what. So
// signatures are counted: those that the log has of a key, an authentication key and a
// length, against those that the signer asked for between two looks at the log.
//
// It is no proof against whoever may write the folder: they can make up what the signer has
// asked for. Entries of the device they cannot change unnoticed once the device has logged
// the next one.
package auditlog
