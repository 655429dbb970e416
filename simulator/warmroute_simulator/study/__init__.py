"""Many runs, and what they say together.

    cell            one run of a study: a policy at a load with a seed, from a trace to a report
    intervals       confidence intervals
    across_seeds    mean and interval of every number of a report
"""
