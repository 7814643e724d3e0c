"""Benches: what the product costs beside its peers, and where its time goes.

Owns one package for each bench (`scripts/bench NAME` runs `python -m bench.NAME`) and `results/`, their committed
figures. May not live here: anything the product imports.
"""
