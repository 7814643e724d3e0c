"""What the benches measured, told to people: the README's table, the page about speed, pictures and verdicts.

Owns everything between `bench/results/*.json` and the rendered files. May not live here: measuring, and any figure.
"""
