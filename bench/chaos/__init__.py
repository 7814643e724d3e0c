"""`scripts/bench chaos`: everything that can go wrong goes wrong under steady load, and every request is accounted for.

Owns the failure lab: the load and its exact accounting, the faults, the houses they happen in, the file of results.
May not live here: rendering the page (bench/report), faults of a simulated engine (`enginehouse.sim`).
"""
