"""Replay: a recorded or made-up load, played against any OpenAI endpoint, and what its clients saw of it.

Owns traces, the text that stands for them, the client, the figures and the pictures. May not live here: anything that
knows what answers (a router, an engine, a simulated one): all of them are spoken to over HTTP alone.
"""
