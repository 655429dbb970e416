"""The real router and simulated engines as processes of their own, for tests that go through sockets.

processes   start, find the port, stop; always by process id
wire        a client that sees bytes: pipelining, slow reading, connections that stay
polling     wait for a condition, with a deadline
"""
