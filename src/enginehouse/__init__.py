"""Enginehouse: one address for a house full of inference engines."""

__version__ = "0.1.0"
