"""The proxy bench: CPU per unit of work of Enginehouse and its peers, measured in one run on one machine.

Owns the contestants, the backend, the load, the accounting and the run. May not live here: rendering of results
(`bench.report`), micro benches.
"""
