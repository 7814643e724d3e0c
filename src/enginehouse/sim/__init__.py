"""Simulated engines, faults and traffic, for tests, benchmarks and the demo.

Owns an engine that speaks the engines' protocols without a model, the ways in which it can misbehave, and clients that
load it. May not live here: anything that a house with real engines needs.
"""
