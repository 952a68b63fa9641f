package nitro

import (
	"privyseal/internal/enclavechain"
	"privyseal/internal/enclavechain/sharing"
)

// providerName is what config, flags and metrics call it.
const providerName = "nitro"

// says is what messages say of Nitro Enclaves.
var says = enclavechain.Words{
	Words: sharing.Words{Measured: "image", Build: "build an image", Policy: "privyseal nitro image-policy", Client: "nitro etcd-client"},
	Stuck: "nitro-cli did not answer when the time was up; see what runs with `privyseal nitro info`",
}
