// Package client says who is behind an address, where that is all there is to go by.
package client

import "net/netip"

// perClient are the bits of an IPv6 address that are a network's: behind them a client has any number.
const perClient = 64

// Of gives the address of a request's other side without its port, and of IPv6 the network of it.
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
