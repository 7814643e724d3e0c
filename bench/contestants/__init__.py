"""The contestants: one file each says how it is installed, configured, started and what it is.

Owns them. May not live here: who takes part in which bench, what they are measured by.
"""
