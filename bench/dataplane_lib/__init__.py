"""The parts of `bench/dataplane.py`.

bodies   the requests that are sent, every one of them new
worker   the fake engines: a process of their own
load     the load generator: closed loop, paced streams, open loop, idle streams
routers  the routers that are compared: how each is installed, started and stopped
cost     CPU time and memory of a process and its children
check    whether a router's answers are right; one whose answers are wrong is not timed
rounds   the scenarios, and the order in which everything runs
report   medians, ratios, the table
"""
