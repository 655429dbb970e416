"""The parts of `bench/ablations.py`.

taken       what is taken away, one thing at a time
learning    runs in which routers believe what is not so, with and without what they learn
study       both halves: from a mode and its traces to all that was found
results     what is kept
verdicts    pays, hurts, no difference
page        the page
"""
