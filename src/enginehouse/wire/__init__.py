"""Bytes to values and back: HTTP heads and framing, header rules, server-sent events, multipart, error bodies.

Owns what is written and read on the network, as functions and small scanners over bytes. May not live here: sockets,
parsers that call back into a connection (those belong to the data plane), routing decisions and state of a request.
"""
