"""Many runs, and what they say together.

    cell            one run: a policy at a load with a seed, from a trace to a report
    task, pool      runs in several processes; results do not depend on how many
    deaf            processes that Ctrl-C does not reach
    unloaded        the sequence of a fleet on which nobody waits

    compare         policies × loads × seeds
    across_seeds    mean and interval of every number of a report
    intervals       confidence intervals

    sweep           the load raised until past the knee
    knee            which loads to try, and where the knee is
    rate            what was offered, and what share of it was good

    tune            a policy's best parameters, and whether they are better than those it came with
    ranges, space   what may be varied, and how far
    search, halton  the best point under a budget of runs; points that fill a space
    check           whether what was found is better than what was given
    objective       what is made better
    halves          a trace in two: one to search on, one to check on
    fleet_size      the smallest fleet that keeps its limits
    config_file     what was found, as the router reads it

`…_table` shows a study on a terminal. Nothing here reads a command line or writes a file.
"""
