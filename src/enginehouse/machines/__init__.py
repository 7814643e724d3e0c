"""State machines without I/O: a request, a service's health, a registration, a child process.

Owns one table of `(state, event) -> step` per machine, driven by `handle(event) -> [commands]`; they only decide.
May not live here: the carrying out of commands, bytes of a protocol, choosing among services, clocks and sockets.
"""
