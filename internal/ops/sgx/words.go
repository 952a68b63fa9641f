package sgx

import (
	"privyseal/internal/enclavechain"
	"privyseal/internal/enclavechain/sharing"
)

// providerName is what config, flags and metrics call it.
const providerName = "sgx"

// says is what messages say of SGX enclaves.
var says = enclavechain.Words{
	Words: sharing.Words{Measured: "enclave", Build: "make an enclave", Policy: "privyseal sgx policy", Client: "sgx etcd-client"},
	Stuck: "the enclave did not end when the time was up; the next start launches another one, and ends this one with this process",
}
