"""What people see while the router runs: figures of the last minutes, and decisions as they are made.

history    samples of the counters, once a second, kept also while nobody watches
decisions  some of the requests on their way, with the price of every worker; only while somebody watches
snapshot   the state of the router as one JSON document
watchers   who is connected, and what waits for each of them
feed       all of it together: `GET /live/snapshot` and `GET /live/events` (`control.live`)
page/      the page at /ui: static files, no build step (`control.page`)
"""
