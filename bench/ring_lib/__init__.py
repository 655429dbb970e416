"""The parts of `bench/ring.py`.

workloads    what is played: traces, and how much of them
texts        a trace's prompts as messages
asking       one request, and what came of it
playing      a whole trace against one URL
fleets       the engines behind everybody, and what they say of their caches
installing   where contestants come from, and their versions
contestants  who is compared, and how each is started
dynamo_fleet Dynamo before engines that know nothing of it
speaker      its workers, which pass requests on; run by its own interpreter
processes    a process on a core of its own
measured     one run: a fresh fleet, a fresh router, one workload
agenda       all runs in order; those that are done
results      what is kept
verdicts     better, within noise, worse
page         the page, and the tables of a terminal
"""
