"""The words of the house: what a fleet, an ask, an outcome and a setting are.

Owns the immutable values that every other package speaks in: the fleet snapshot and its services, what routing needs
from a request, the closed table of outcomes, the configuration and the units. May not live here: any decision, any
input or output, any clock or chance, and any import from another package of ours.
"""
