"""The parts of `bench/beliefs.py`.

levels      what is wrong in a run: places, their loads, variants, the variants of each mode
restarts    how many requests a lost cache misleads before the router notices
played      one run, from what is wrong in it to its figures
playing     many of them, several at a time
verdicts    figures beside those of the run in which nothing is wrong, and their bars
"""
