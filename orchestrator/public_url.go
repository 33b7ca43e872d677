package main

import (
	"net"
	"net/url"

	"github.com/spf13/cobra"
)

// publicURLFlag adds the flag that says where people reach the page.
func (p *program) publicURLFlag(command *cobra.Command) {
	command.Flags().StringVar(&p.publicURL, "public-url", p.publicURL,
		"URL at which people reach the page, for links in messages (default $PUBLIC_URL, else the page's own address)")
	// The flag's usage says what the default is.
	command.Flags().Lookup("public-url").DefValue = ""
}

// checkPublicURL refuses what could not begin a link.
func (p *program) checkPublicURL() error {
	if p.publicURL == "" {
		return nil
	}
	parsed, err := url.Parse(p.publicURL)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "" ||
		parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
		return badUsage("Write it as https://crm.example.com, without user, query or #.", "%q is not the URL of a page", p.publicURL)
	}
	return nil
}

// linkTo is the URL with which links begin: the public one, or that of the page at an address.
func (p *program) linkTo(address string) string {
	if p.publicURL != "" {
		return p.publicURL
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	// The page on all addresses of this machine is at this one too, which its name says better than its number.
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// pageHosts are the domain names of the page.
func (p *program) pageHosts() []string {
	public, err := url.Parse(p.publicURL)
	if err != nil || public.Hostname() == "" {
		return p.hosts
	}
	return append(p.hosts[:len(p.hosts):len(p.hosts)], public.Hostname())
}
