"""The micro bench: what each part of the way of a request costs, without sockets and peers.

Owns the parts (`decisions`, `passage`), a worker without sockets (`dry`), measuring and showing. May not live here:
whole processes under load (`bench.proxy`).
"""
