"""The router's control process: what the workers do not have the time for.

Owns discovery, active probes, the publishing of fleet snapshots and the router's own HTTP interface. May not live here:
the path of a proxied request, the registry's store, the registry client (it is handed in) and the start of processes.
"""
