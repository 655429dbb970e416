"""The live proxy: sockets, HTTP, metrics, admin. It drives the decision core with real time.

cli      the `router` command: serve, demo, config
config   every setting, where its value came from, and the values the core gets from it
"""
