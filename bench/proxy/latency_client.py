"""One client, one connection, one request at a time: `python -m bench.proxy.latency_client --url URL --bodies DIR`.

Owns a closed loop that takes the time of each request. May not live here: load (wrk), streams (`stream_client`).

What it takes itself, about 10 µs a request, is in the time through a proxy and in the time going direct alike. Prints a
line when it begins to count and one of figures at the end.
"""

import argparse
import gc
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bench.common.traffic import HEADERS, PATH

_READ = 65536
_DEADLINE = 10.0


def request(host: str, body: bytes) -> bytes:
    """The bytes of one."""
    lines = [f"POST {PATH} HTTP/1.1", f"Host: {host}", "Connection: keep-alive"]
    lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def exchange(connection: socket.socket, data: bytes) -> bool:
    """Send a request and read its answer, which must have a length; is it 200?"""
    connection.sendall(data)
    answer = connection.recv(_READ)
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += _more(connection)
    head = answer[:end].lower()
    at = head.index(b"content-length:") + 15
    missing = int(head[at : (head + b"\r").index(b"\r", at)]) + end + 4 - len(answer)
    while missing > 0:
        missing -= len(_more(connection))
    return answer.startswith(b"HTTP/1.1 200")


def quantile(ordered: Sequence[int], share: float) -> float:
    """Of values in ascending order, at least one."""
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))])


def run(connection: socket.socket, requests: Sequence[bytes], seconds: float) -> dict[str, float]:
    """For that long; nanoseconds are kept for each request."""
    clock, taken, errors, turn = time.perf_counter_ns, [], 0, 0
    end = clock() + int(seconds * 1e9)
    now = clock()
    while now < end:
        began = now
        errors += not exchange(connection, requests[turn])
        now = clock()
        taken.append(now - began)
        turn = (turn + 1) % len(requests)
    taken.sort()
    return {
        "requests": len(taken),
        "errors": errors,
        "p50_us": quantile(taken, 0.5) / 1e3,
        "p99_us": quantile(taken, 0.99) / 1e3,
    }


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(_READ)
    if not data:
        raise ConnectionError("the answer ended early")
    return data


def main() -> None:
    """Parse, warm up, count."""
    parser = argparse.ArgumentParser(prog="latency_client", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="folder of 0.json, 1.json, …")
    parser.add_argument("--count", type=int, required=True, help="how many there are")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    options = parser.parse_args()
    url = urlsplit(options.url)
    bodies = [(options.bodies / f"{index}.json").read_bytes() for index in range(options.count)]
    requests = [request(url.netloc, body) for body in bodies]
    gc.freeze()
    with socket.create_connection((url.hostname or "", url.port or 80), timeout=_DEADLINE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        run(connection, requests, options.warmup)
        print(json.dumps({"ready": True}), flush=True)
        print(json.dumps(run(connection, requests, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
