"""The router's parent process: opens the listeners and keeps workers and control running.

Owns the sockets and the shared memory that the children inherit, their restarts, the watchdog and the order of a stop.
Standard library and `core` only: nothing here may be able to fail. May not live here: requests, services, configuration
beyond what it is handed, and the code that runs in the children.
"""
