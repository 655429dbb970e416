"""The real router and simulated engines as processes of their own, for tests that go through sockets.

processes   start, find the port, stop; always by process id
fake_worker a worker that does what a test tells it, byte by byte
front       a router in front of such workers, and its books
otlp        a collector of traces
terminal    a program in a pseudo-terminal, and its screen
wire        a client that sees bytes: pipelining, slow reading, connections that stay
fetched     what several test processes may fetch at once
polling     wait for a condition, with a deadline
"""
