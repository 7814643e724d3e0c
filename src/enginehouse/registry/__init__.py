"""The registry: who is in, for how long, and who is told about it.

Owns the HTTP interface, the store with its leases, revisions and journal, the push feed, and the client that the
babysitter and the router are handed. May not live here: routing, the state of engine processes, and a judgement on
whether a service should get traffic: the registry's view is a hint.
"""
