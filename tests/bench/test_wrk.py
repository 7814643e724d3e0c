"""What the bench reads of what wrk prints."""

import pytest

from bench.common.processes import BenchError
from bench.proxy import wrk

PRINTED = """Running 3s test @ http://127.0.0.1:4111
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.85ms  122.11us   3.11ms   80.43%%
Requests/sec:  70696.21

{"requests":212088,"duration_us":3000102,"bytes":151218744,"connect":%d,"read":0,"write":0,"status":%d,"timeout":%d,\
"p50_us":865.0,"p99_us":1327.0,"max_us":3110.0}
"""


def test_the_line_of_our_script_is_found_among_the_others() -> None:
    counted = wrk.parse(PRINTED % (0, 0, 0))
    assert (counted.requests, counted.p99_us, counted.errors) == (212088, 1327.0, 0)


def test_every_kind_of_failure_is_an_error() -> None:
    assert wrk.parse(PRINTED % (1, 20, 300)).errors == 321


@pytest.mark.parametrize("printed", ["", "unable to connect to 127.0.0.1:1 Connection refused\n"])
def test_no_line_is_no_measurement(printed: str) -> None:
    with pytest.raises(BenchError, match="said nothing"):
        wrk.parse(printed)
