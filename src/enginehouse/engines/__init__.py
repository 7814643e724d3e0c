"""Real inference engines as programs of ours, for machines that have only Python packages.

Owns: llama.cpp's own HTTP server in a process (`llamacpp`) and the small models it can be given (`models`, `recipes`).
May not live here: anything the registry, the router or the babysitter need to run; they see an engine as a URL.
"""
