"""The babysitter: keeps one engine process alive and tells the truth about it.

Owns starting, watching, reading out and stopping an engine and all its descendants, readiness, the kinds of engine (as
data), log files and the keeping-up of its registration. May not live here: restart decisions (the child machine in
`machines`), the registry client (it is handed in) and anything about routing.
"""
