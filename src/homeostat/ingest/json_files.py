"""JSON files that are one text: an array of objects, or values written over several lines.

Where a file begins with `[`, or with an object whose brace stands alone on its line, it is read as
a whole; any other is JSON lines.
"""

from __future__ import annotations

import re

import msgspec

from homeostat.core.errors import HomeostatError
from homeostat.ingest.lines import BOM, line_break
from homeostat.ingest.payloads import Payloads
from homeostat.ingest.push import BodyMalformed, cut
from homeostat.ingest.python_values import within_limit

__all__ = ["HEAD", "JsonUnended", "is_whole_text", "records_in"]

HEAD = 64 << 10
"""So much of a file says how it is read."""

_WHOLE = re.compile(rb'\s*(?:\[|\{[ \t\r]*\n\s*["}]|\{[ \t]*\r\s*["}])')


class JsonUnended(HomeostatError, ValueError):
    """A text that begins as one JSON value, and is none to its end."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"it begins as one JSON text, and is none: {why}; allowed: an array of objects to its "
            "end, or one object per line; write the file again"
        )


def is_whole_text(head: bytes) -> bool:
    r"""Return whether the file that begins so is read as a whole.

    >>> is_whole_text(b' [{"a": 1},'), is_whole_text(b'{\n "a": 1'), is_whole_text(b'{"a": 1}\n')
    (True, True, False)
    """
    return _WHOLE.match(head.removeprefix(BOM)) is not None


def records_in(body: bytes) -> Payloads:
    r"""Return the records of a JSON file; raise `JsonUnended`.

    A file whose first line is a list by itself, with more lines behind it, is JSON lines.

    >>> list(records_in(b'[{"a": 1},\n{"a": 2}]')), list(records_in(b'[1]\n{"a": 2}\n'))
    ([b'{"a": 1}', b'{"a": 2}'], [b'[1]', b'{"a": 2}'])
    """
    body = body.removeprefix(BOM)
    if not is_whole_text(body):
        return _lines(body)
    try:
        return Payloads.of([within_limit(event) for event in cut("a file", body)])
    except BodyMalformed as malformed:
        if malformed.found == "an empty list":
            return Payloads.of([])
        first, _, rest = body.lstrip().partition(b"\n")
        if rest.strip() and first.startswith(b"[") and _is_json(first):
            return _lines(body)
        raise JsonUnended(malformed.found) from malformed


def _lines(body: bytes) -> Payloads:
    return Payloads.lines(body if line_break(body) == b"\n" else body.replace(b"\r", b"\n"))


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
