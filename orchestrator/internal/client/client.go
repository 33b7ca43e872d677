// Package client identifies a client by its address, when nothing else identifies it.
package client

import "net/netip"

// perClient is the length of an IPv6 network. A client can use any number of addresses within its network.
const perClient = 64

// Of returns the client's address without the port; for IPv6, the client's network.
func Of(remote string) string {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	address := from.Addr().Unmap().WithZone("")
	if address.Is4() {
		return address.String()
	}
	network, err := address.Prefix(perClient)
	if err != nil {
		return remote
	}
	return network.String()
}
