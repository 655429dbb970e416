"""Looking for input that breaks a part of the product: made by grammars, mutated, cut into pieces.

target          what a target is, how it is run, what a finding is
mutation        damaging bytes
grammar         requests, valid and nearly so
front           the HTTP front of a real router
answers         the worker's side: framing and token counts, in any pieces
configuration   files, variables and flags
journal         damaged journals
admin           the admin API, by schemathesis on its own description
"""
