"""A registry of somebody else: speaks the inherited contract and nothing more, for trying our clients against.

Owns `ForeignRegistry`: a real HTTP server in a thread, memory only, no feed, no leases, no revisions; it drops `weight`
and every field and query it does not know, and its errors are plain text. May not live here: anything of ours.
"""

import contextlib
import json
import socket
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

REQUIRED = ("name", "host", "port", "hostname", "url", "status")


class ForeignRegistry:
    """A context. `services` holds what is registered (name to record), `calls` every request as "METHOD target"."""

    def __init__(self, port: int = 0) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.registry = self
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and end every connection; nothing is kept."""
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()
        self._thread.join(10)

    def register(self, record: dict[str, Any]) -> None:
        """Register without HTTP, for the setting of a scene."""
        now = time.time()
        self.services[record["name"]] = {
            **{key: record[key] for key in REQUIRED},
            "timestamp": record.get("timestamp") or datetime.now(UTC).isoformat(),
            "last_heartbeat": now,
            "health_status": "unknown",
            "is_healthy": True,
            "metadata": record.get("metadata") or {},
        }


class _Server(ThreadingHTTPServer):
    registry: ForeignRegistry
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)

    def end_connections(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):  # it ended by itself
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        known = self.server.registry.services
        match self._path():
            case ["health"]:
                count = len(known)
                self._json(200, status="healthy", registry="running", registered_services=count, healthy_services=count)
            case ["stats"]:
                self._json(200, total_services=len(known), healthy_services=len(known), unhealthy_services=0)
            case ["services"]:
                query = parse_qs(urlsplit(self.path).query)
                listed = list(known.values())
                if "status" in query:
                    listed = [service for service in listed if service["status"] == query["status"][0]]
                if "healthy" in query:
                    listed = [
                        service for service in listed if str(service["is_healthy"]).lower() == query["healthy"][0]
                    ]
                self._json(200, services=listed, total=len(listed))
            case ["services", name] if name in known:
                self._json(200, **known[name])
            case ["services", name, "health"] if name in known:
                self._json(200, service=name, health_status="unknown", is_healthy=True)
            case _:
                self._text(404, "Not Found")

    def do_POST(self) -> None:
        known = self.server.registry.services
        body = self._body()
        match self._path():
            case ["services"]:
                if body is None or not all(field in body for field in REQUIRED):
                    return self._text(400, "Request body deserialize error")
                self.server.registry.register(body)
                name = body["name"]
                self._json(201, message=f"Service '{name}' registered successfully", service=known[name])
            case ["services", name, "heartbeat"] if name in known:
                known[name]["last_heartbeat"] = time.time()
                known[name]["status"] = (body or {}).get("status") or known[name]["status"]
                self._json(200, message="Heartbeat received")
            case _:
                self._text(404, "Not Found")
        return None

    def do_PUT(self) -> None:
        known = self.server.registry.services
        body = self._body() or {}
        match self._path():
            case ["services", name] if name in known:
                fields = ("host", "port", "hostname", "url", "status", "metadata")
                known[name] |= {field: body[field] for field in fields if field in body}
                known[name]["last_heartbeat"] = time.time()
                self._json(200, message=f"Service '{name}' updated successfully", service=known[name])
            case _:
                self._text(404, "Not Found")

    def do_DELETE(self) -> None:
        match self._path():
            case ["services", name] if self.server.registry.services.pop(name, None):
                self._json(200, message=f"Service '{name}' unregistered successfully")
            case _:
                self._text(404, "Not Found")

    def log_message(self, format: str, *args: Any) -> None:
        """Not to the terminal."""

    def _path(self) -> list[str]:
        self.server.registry.calls.append(f"{self.command} {self.path}")
        return [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]

    def _body(self) -> dict[str, Any] | None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(data)
        except ValueError:
            return None
        return body if isinstance(body, dict) else None

    def _json(self, code: int, /, **body: Any) -> None:
        self._send(code, "application/json", json.dumps({"timestamp": _now()} | body).encode())

    def _text(self, status: int, text: str) -> None:
        self._send(status, "text/plain; charset=utf-8", text.encode())

    def _send(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _now() -> str:
    return datetime.now(UTC).isoformat()
