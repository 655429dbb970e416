"""What tests of discovery share: traffic that notices every lost request, a DNS server, an API server."""
