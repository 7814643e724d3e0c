"""Which service gets the request, judged: our policies and those of others, on the same engines and the same load.

Owns the loads, the discrete-event mode (virtual clock, no sockets) and the contest over HTTP. May not live here: how
results are rendered (`bench.report`), the engine model (`enginehouse.sim.batching`), playing a trace over HTTP
(`enginehouse replay`).
"""
