"""State machines without I/O: a request, a service's health, a registration, a child process.

Owns one table of `(state, event) -> step` per machine; each is driven by `handle(event) -> [commands]` and decides only.
May not live here: the carrying out of commands, bytes of a protocol, choosing among services, clocks and sockets.
"""
