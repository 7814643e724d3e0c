"""Parts of a file that people write which are rendered: each between two markers.

Owns the markers. May not live here: what stands between them.
"""

from __future__ import annotations


def markers(name: str) -> tuple[str, str]:
    """Those of a part."""
    return f"<!-- {name}: begin (made by python -m bench.report) -->", f"<!-- {name}: end -->"


def between(text: str, name: str, part: str) -> str:
    """The text with this part replaced; ValueError where its two markers are not there, once each and in order."""
    first, last = markers(name)
    begin, end = text.find(first), text.find(last)
    if not 0 <= begin < end or text.count(first) != 1 or text.count(last) != 1:
        raise ValueError(f"README.md needs one line `{first}` and after it one `{last}`")
    return f"{text[:begin]}{first}\n{part}\n{text[end:]}"
