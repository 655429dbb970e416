"""The parts of `bench/routing.py`.

What is asked
    factors       traces, loads, caches, fleets: the levels and their reasons
    traces        where a trace comes from, and what a seed changes in it
    covering      a few rows of the grid in which every two levels meet
    knees         the load that a place bears, from the loads that were tried
    plan          the cells, policies and seeds of each mode
    agenda        what of a plan is still to be played

What is played
    orders        one run: as it is asked for, and how it is made
    runs          orders in several processes
    playing       an agenda, to its end
    store         runs that are done
    lines         records in a file, a line each
    progress      how far it is

What is said
    results       what is kept of a study
    gathered      from runs to results
    provenance    the commit, the machine, the versions
    statistics    intervals over seeds
    verdicts      better, level or lost; how far behind the best
    page          the page; page_verdicts, page_traces, page_limits its sections, markdown its tables
    plots         its plots
"""
