package dial

import "net"

// IsLoopback reports whether a host, as a URL has it, is this one without a question to DNS.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
