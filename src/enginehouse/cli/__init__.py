"""The command line: one module for each group of commands.

Owns the commands, their help, the reading of files and environment into the configuration, and what is printed. May not
live here: what the commands do (`app` wires it) and any setting that is not derived from the configuration.
"""
