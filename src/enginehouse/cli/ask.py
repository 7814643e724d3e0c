"""Asking a running part for JSON, as `status`, `explain`, `drain`, `up` and `replay` do.

Owns one bounded request. May not live here: what the answers mean to people.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

#: Bytes of an answer; 4096 services with long model lists fit.
LARGEST: Final = 64 * 1024 * 1024


class NoAnswerError(Exception):
    """Why there is no usable answer, in words for people."""


def get(url: str, path: str, timeout: float) -> Any:
    """The JSON of `url` + `path`, whatever its status. Raises `NoAnswerError`."""
    return _exchange(url, "GET", path, None, {}, timeout)[1]


def put(url: str, path: str, body: Mapping[str, Any], token: str, timeout: float) -> tuple[int, Any]:
    """PUT an object, with a bearer token ("" for none): status and JSON of the answer. Raises `NoAnswerError`."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    return _exchange(url, "PUT", path, json.dumps(body).encode(), headers, timeout)


def models(url: str, key: str, timeout: float) -> list[str] | None:
    """The models that an OpenAI API (its URL, as `http://host/v1`) lists; None where it has no such list.

    Raises `NoAnswerError`, also where the key ("" for none) is refused.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    status, answer = _exchange(url, "GET", "/models", None, headers, timeout)
    if status in (401, 403):
        raise NoAnswerError(f"{url} refuses {'the key' if key else 'requests without a key'} (status {status})")
    try:
        return [str(each["id"]) for each in answer["data"]] if status == 200 else None
    except (TypeError, KeyError):
        return None


def send(url: str, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Any:
    """Any request with any body: the JSON of the answer, whatever its status. Raises `NoAnswerError`."""
    return _exchange(url, method, path, body or None, headers, timeout)[1]


def _exchange(
    url: str, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
) -> tuple[int, Any]:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=timeout)
        try:
            sent = {"accept": "application/json", **headers}
            connection.request(method, parts.path.rstrip("/") + path, body=body, headers=sent)
            response = connection.getresponse()
            answer = response.read(LARGEST)
        finally:
            connection.close()
    except TimeoutError:
        raise NoAnswerError(f"{url} did not answer within {timeout:g} s") from None
    except OSError as error:
        raise NoAnswerError(f"{url} cannot be reached: {error.strerror or error}") from None
    except (http.client.HTTPException, ValueError) as error:
        raise NoAnswerError(f"{url} does not speak HTTP as expected: {error!r}") from None
    try:
        return response.status, json.loads(answer)
    except ValueError:
        raise NoAnswerError(f"{url}{path} answered something that is not JSON: is this the right port?") from None


def services(url: str, timeout: float) -> list[dict[str, Any]]:
    """The router's services, each as its contract describes them. Raises `NoAnswerError`."""
    answer = get(url, "/services", timeout)
    found = answer.get("services") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not all(isinstance(service, dict) for service in found):
        raise NoAnswerError(f"{url} answers, but not as a router does")
    return found
