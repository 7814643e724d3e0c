"""The data plane: a worker process that carries requests to engines and answers back.

Owns the server, both kinds of connection, the pool, the driver that carries out the commands of the exchange machine,
the splice, shared memory, counters and the access log. May not live here: choosing a service (`policy`), deciding what
comes next (`machines`), the meaning of headers (`wire`), a web framework, and anything synchronous that can block.
"""
