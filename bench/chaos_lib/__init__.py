"""A fleet that is broken on purpose, and every request accounted for.

answers     what an engine answers to a nonce: any byte can be checked
engine      an engine as a process: fast, deterministic, can be slowed
fleet       eight of them behind a router; kills, hangs, restarts
injector    a seeded plan of what breaks when
client      requests at a fixed rate, whatever the answers take
verdict     what became of every request, and which fault explains it
"""
