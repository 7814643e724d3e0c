"""Pure choosing: who may serve a request, who does, and what happens when that fails.

Owns the only candidate filter, the table of choosers, affinity and the retry rule. Each returns a value and touches
nothing; `now` and `rng` are arguments. May not live here: state machines, bytes, input or output, and anything that
counts or remembers outside what it is given.
"""
