"""How clients come in, before their first byte of HTTP.

sockets    what is listened on: addresses, a Unix socket, or what a supervisor passed on
unix       the name of a Unix socket: whose it is, and its end
inherited  systemd's socket activation
acceptor   connections that begin with a proxy's head or a TLS handshake
doors      all of it together, and what a hand-over does with it
"""
