"""An engine for tests that misbehaves as asked: `engine.py '{"port": …}'`. Standard library only, so it starts fast.

Owns what a simulated engine has no business to do: children in sessions of their own, deaf ears, floods of output.
May not live here: assertions. What it noticed it writes, one line each, to the file `journal`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

OPTIONS: dict[str, Any] = {
    "port": 0,
    "journal": "",
    "models": ["m"],
    "models_file": "",  # JSON list of ids, read for every answer
    "no_models": False,  # neither /v1/models nor /models
    "only_models": False,  # /models, but no /v1/models
    "key": "",  # wanted for the model lists
    "loading": "",  # 503 until there is a file of this name
    "crash": None,  # exit status at once
    "crash_after": None,  # seconds
    "words": "",  # printed at the start, $NAME replaced from the environment
    "flood": 0,  # bytes printed before it listens
    "silent": False,  # accepts, never answers
    "deaf": 0,  # SIGTERMs that are ignored
    "family": "",  # children: "daemon" (double fork, own session), "group" (same group)
    "registered_at": "",  # URL asked when SIGTERM arrives
}


def note(line: str) -> None:
    if OPTIONS["journal"]:
        with Path(OPTIONS["journal"]).open("a") as file:
            file.write(line + "\n")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if OPTIONS["silent"]:
            time.sleep(60)
        if OPTIONS["loading"] and not Path(OPTIONS["loading"]).exists():
            self.answer(503, {"error": {"message": "Loading model", "code": 503}})
        elif self.path in ("/v1/models", "/models") and not OPTIONS["no_models"]:
            if self.path == "/v1/models" and OPTIONS["only_models"]:
                self.answer(404, {"detail": "Not Found"})
            elif OPTIONS["key"] and self.headers["authorization"] != f"Bearer {OPTIONS['key']}":
                self.answer(401, {"error": "Unauthorized"})
            else:
                self.answer(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in models()]})
        elif self.path == "/health":
            self.answer(200, {})
        else:
            self.answer(404, {"detail": "Not Found"})

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def models() -> list[str]:
    if OPTIONS["models_file"]:
        return list(json.loads(Path(OPTIONS["models_file"]).read_text()))
    return list(OPTIONS["models"])


def on_term(number: int, frame: object) -> None:
    note(f"signal {number}")
    if OPTIONS["registered_at"]:
        try:
            with urllib.request.urlopen(OPTIONS["registered_at"], timeout=5) as answer:
                note(f"registered {json.load(answer)['status']}")
        except urllib.error.HTTPError as error:
            note(f"registered {error.code}")
    if OPTIONS["deaf"] > 0:
        OPTIONS["deaf"] -= 1
    else:
        os._exit(0)


def have_family(kind: str) -> None:
    """Two generations that outlive us unless somebody sees to it."""
    code = (
        "import os, subprocess, sys, time\n"
        "pids = [os.getpid(), subprocess.Popen(['sleep', '600'], start_new_session=True).pid]\n"
        "open(sys.argv[1], 'a').write(''.join(f'pid {pid}\\n' for pid in pids))\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code, OPTIONS["journal"]]
    if kind == "daemon":  # the middle process ends at once: the daemon loses its parent
        middle = f"import subprocess; subprocess.Popen({command!r}, start_new_session=True)"
        subprocess.run([sys.executable, "-I", "-S", "-c", middle], start_new_session=True, check=True)
    else:
        subprocess.Popen(command)


def main() -> None:
    OPTIONS.update(json.loads(sys.argv[1]))
    note(f"pid {os.getpid()}")
    note(f"args {json.dumps(sys.argv[2:])}")
    signal.signal(signal.SIGTERM, on_term)
    if OPTIONS["words"]:
        print(os.path.expandvars(OPTIONS["words"]), flush=True)
    if OPTIONS["crash"] is not None:
        sys.exit(OPTIONS["crash"])
    if OPTIONS["flood"]:
        line = b"x" * 1023 + b"\n"
        for _ in range(OPTIONS["flood"] // len(line)):
            os.write(1, line)
    if OPTIONS["family"]:
        have_family(OPTIONS["family"])
    server = Server(("127.0.0.1", OPTIONS["port"]), Handler)
    note("listening")
    if OPTIONS["crash_after"] is not None:
        signal.signal(signal.SIGALRM, lambda *_: os._exit(7))
        signal.setitimer(signal.ITIMER_REAL, OPTIONS["crash_after"])
    server.serve_forever()


if __name__ == "__main__":
    main()
