// Package nitrokms keeps a validator's secrets under a key of AWS KMS that only
// one enclave image may use: it speaks to KMS from inside the enclave, opens the
// envelopes in its answers, and writes and reads wrapped keys.
//
// Its KMS client knows two calls, GenerateDataKey and Decrypt, both with an
// attestation document. It is written by hand on crypto/tls and internal/awsjson: the SDK would make
// half of the measured program, and of its features we want none. For tests elsewhere it
// hands out what KMS says of a data key that nobody keeps, and of no other. Nothing here
// reads configuration, environment or files, or knows what a key signs.
//
// What is trusted: AWS KMS behind a TLS connection that ends here, under roots and
// a name that the caller took from the measured policy; the system's randomness
// and clock. What is not: whoever carries the connection, keeps the wrapped keys
// and gives the AWS credentials. He can refuse everything, and choose which of
// the wrapped keys of this KMS key is opened; the caller holds what comes out
// against what it expects. An envelope proves nothing about who made it, the TLS
// connection does.
package nitrokms
