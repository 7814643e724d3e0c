"""The fuzzer: broken requests and broken answers through a real router, for minutes, under close observation.

Owns what is sent (`corpus`, `mutate`, `case`), both ends of the wire (`client`, `engine`), what must hold of every byte
that comes through (`reply`, `asked`), the router and its health (`house`), the loop (`run`), whose fault a finding is
(`culprit`, `minimise`). May not live here: tests of single findings (`tests/`).
"""
