"""Raw requests, valid and hostile, and what a router and nginx make of them.

`cases` is the list, `sender` sends one and says what came back, `nginx` runs the proxy that the router
is compared with, and `differences` is the table of what the two do differently, and why.
"""
