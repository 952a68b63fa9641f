// Package yubihsm speaks the protocol of the YubiHSM 2, a USB hardware security module:
// sessions, objects, signatures, wrapped backups, attestations and the audit log. It needs
// neither cgo nor a package beside the standard library.
//
// # Use
//
// A [Transport] carries messages to one device. [Open] makes one from an address:
// yubihsm-connector over HTTP ("http://127.0.0.1:12345") or the device itself on the USB
// of Linux ("usb://0123456789"). [Authenticate] opens a [Session] on it with an
// authentication key, and everything else is a method of the session.
//
// A session ends 30 seconds after its last command, when the device restarts, and with the
// first error that is not the device's own, authenticated refusal. It then answers each call
// with a [*SessionError], and the caller opens another one. The package itself repeats
// nothing: whether a command was carried out when its answer is lost, only the caller can
// find out. A device has 16 sessions and does one thing at a time; a signature takes it
// about a tenth of a second.
//
// # What is trusted
//
// The device that knows the authentication key, and crypto/rand. Commands and answers in a
// session are encrypted and authenticated in both directions (GlobalPlatform's SCP03 with
// AES-128). Connector, network and USB can refuse, delay and drop, which is an error; they
// learn which authentication key is used, and the length and time of commands. Who records
// them and has the authentication key, now or later, reads everything: there is no forward
// secrecy, so a new private key that was put into a device is as secret as that key. Outside of
// a session nothing is
// authenticated: what [ReadDeviceInfo] and [Connector.Status] return is what somebody says.
// An attestation certificate is returned as it comes; verify it against Yubico's root.
//
// Every answer meets one strict decoder: lengths must fit exactly, and sizes are bounded by
// [MaxMessage]. Unknown algorithms and commands are values like others, because newer
// devices report some that are not documented.
//
// # Sources
//
// The protocol is Yubico's: the command reference of the YubiHSM 2 user guide
// (docs.yubico.com/hardware/yubihsm-2/hsm-2-user-guide), "the guide" in comments here, and
// yubihsm.h of yubihsm-shell 2.6 for values that the guide leaves out. The secure channel is
// GlobalPlatform Card Specification 2.3, Amendment D (SCP03), version 1.1.2, in the form that
// the device has it.
package yubihsm
