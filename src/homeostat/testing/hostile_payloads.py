"""Payloads that nobody should send: cut off, of wrong types, huge, deep, of another time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["hostile_payloads"]

_BYTES = (b"", b'"', b"\\", b",", b"}", b"{", b"[", b"\x00", b"\xff", b"\xed\xa0\x80", b"e", b"-")
_VALUES: tuple[Any, ...] = (
    None, True, "", "x", -1, 0, 1.5, 2**63, -(2**63) - 1, 10**400, [], {}, [[1]], {"a": {"b": 1}},
    "2024-02-30T00:00:00Z", "9999-12-31T23:59:59-01:00", "\ud83d\ude00", "é" * 300, float("nan"),
    float("-inf"), "\x00",
)  # fmt: skip


def hostile_payloads(
    event: Mapping[str, Any], count: int, seed: int, largest: int = 100_000
) -> list[bytes]:
    """Return `count` payloads that resemble an event, each spoiled in one way or another.

    Some are still events, for a field may be changed to another value that it may have. One in a
    few thousand is nested deeply, or has up to `largest` bytes.

    >>> len(set(hostile_payloads({"tap": "a", "n": 1}, 100, seed=1))) > 50
    True
    """
    draw = np.random.default_rng(seed)
    whole = json.dumps(event).encode()
    kinds = draw.integers(0, 9, count).tolist()
    rare = (draw.random(count) < 0.0005).tolist()
    return [
        _rare(whole, draw, largest) if rare[i] else _spoiled(event, whole, kinds[i], draw)
        for i in range(count)
    ]


def _spoiled(event: Mapping[str, Any], whole: bytes, kind: int, draw: Any) -> bytes:
    place = int(draw.integers(0, len(whole) + 1))
    names = list(event)
    name = names[int(draw.integers(0, len(names)))]
    if kind == 0:  # cut off
        return whole[:place]
    if kind == 1:  # a byte more, or another one
        changed = _BYTES[int(draw.integers(0, len(_BYTES)))]
        return whole[:place] + changed + whole[place + int(draw.integers(0, 2)) :]
    if kind == 2:  # a field less
        return json.dumps({key: event[key] for key in names if key != name}).encode()
    if kind == 3:  # the same key twice
        value = _VALUES[int(draw.integers(0, len(_VALUES)))]
        return whole[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}".encode()
    if kind == 4:  # a schema from the future
        more = {f"new_{place}": _VALUES[place % len(_VALUES)], name: {"v2": event[name]}}
        return json.dumps({**event, **(more if place % 2 else dict([more.popitem()]))}).encode()
    if kind == 5:  # any bytes
        return bytes(draw.integers(0, 256, int(draw.integers(0, 40)), dtype=np.uint8))
    if kind == 6:  # a number with many digits
        digits = "".join(map(str, draw.integers(0, 10, int(draw.integers(1, 60))).tolist()))
        text = f"{digits}.{digits}e{draw.integers(-400, 400)}"
        return json.dumps({**event, name: "?"}).replace('"?"', text).encode()
    if kind == 7:  # not an object
        return json.dumps([event, whole.decode(), 1, None][place % 4]).encode()
    value = _VALUES[int(draw.integers(0, len(_VALUES)))]
    return json.dumps({**event, name: value}, ensure_ascii=bool(place % 2)).encode(
        "utf-8", "surrogatepass"
    )


def _rare(whole: bytes, draw: Any, largest: int) -> bytes:
    size = int(draw.integers(1, largest))
    kind = int(draw.integers(0, 4))
    if kind == 0:
        return b"[" * size
    if kind == 1:
        return whole[:-1] + b', "x": ' + b'{"a":' * (size // 10) + b"1" + b"}" * (size // 10) + b"}"
    if kind == 2:
        return whole[:-1] + b', "x": "' + b"y" * size + b'"}'
    return b" " * size + whole
