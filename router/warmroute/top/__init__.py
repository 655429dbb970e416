"""`router top`: the live page for people without a browser, in a terminal.

options    what is asked for on the command line
schema     what a router tells of itself (`/live/snapshot`, `/live/events`)
feed       a thread that reads it, and connects again when the router was away
state      what is shown, and what a key changes
frame      one picture: header, charts, workers, and as many panes as fit
panes      the tables
shapes     bars, sparklines, and numbers in few characters
terminal   keys without Enter, and a terminal that is as it was before
live       the loop of keys and pictures; plain lines where there is no such terminal
"""
