// Package yubihsm signs with a key that one or more YubiHSM 2 hold: each of them has the
// same key under the same object id. It is the part that lives with devices that fail, on
// top of the protocol in privyseal/yubihsm.
//
// A device has one session, used by one command after the other in the order in which they
// came, and kept alive. What fails is repaired inside the call that saw it: a session that
// is over is replaced by a new one on the same device, and a device that does not sign by the
// next one. Sign returns within [Patience], whatever the devices do.
//
// The devices are not trusted with the outcome. Which key they have to hold is known before,
// and no signature leaves that this key does not verify. Whoever has the password and reaches
// a device can have anything signed: what keeps the signer from signing twice is its mark
// alone. The password reaches no error, log or print verb.
//
// It keeps no mark and judges no message: it has signed whatever it is handed.
package yubihsm
