"""The parts of `bench/tuning.py`.

workloads   which traces the search sees and which it does not; the cells of both halves
playing     runs by order, each played once
costs       what a point costs: one number for runs of several workloads
searched    the search of `simulator tune` over these workloads, and the check on all of them
results     what is kept of it
verdicts    whether the defaults stand
page        the page
"""
