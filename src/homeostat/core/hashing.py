"""Content hashes: the same value gives the same text on every machine and run."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from homeostat.core.errors import HomeostatError

__all__ = [
    "canonical_json",
    "content_hash",
    "plain",
    "short_digest",
    "source_hash",
    "unit_interval",
]


def plain(value: object) -> Any:
    """Return `value` as JSON types; frozen dataclasses become tagged mappings.

    Fields that take no part in comparison are left out. Mappings and sets are ordered by key;
    functions are named by their qualified name and source hash.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if is_dataclass(value) and not isinstance(value, type):
        body = {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.compare}
        return {"type": type(value).__name__, **body}
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, type):
        return {"class": f"{value.__module__}.{value.__qualname__}"}
    if callable(value):
        return {"function": getattr(value, "__qualname__", "?"), "source": source_hash(value)}
    raise HomeostatError(f"a {type(value).__name__} has no content hash: {value!r}")


def canonical_json(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces.

    >>> canonical_json({"b": (1, 2), "a": None})
    '{"a":null,"b":[1,2]}'
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_hash(value: object) -> str:
    """Return 64 hexadecimal digits (SHA-256) of the canonical JSON of `value`.

    >>> content_hash({"a": 1})[:12]
    '015abd7f5cc5'
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def source_hash(function: Callable[..., object]) -> str:
    """Return a hash of a function's source text, or of its code where no source can be read."""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        if code is None:
            raise HomeostatError(f"the source of {function!r} cannot be read") from None
        text = code.co_code.hex() + repr(code.co_consts)
    return hashlib.sha256(text.encode()).hexdigest()


def short_digest(parts: Iterable[str]) -> str:
    """Return 16 hexadecimal digits that identify `parts` in their order.

    >>> short_digest(["a", "b"]) != short_digest(["ab", ""])
    True
    """
    framed = b"".join(len(raw).to_bytes(4, "big") + raw for raw in (p.encode() for p in parts))
    return hashlib.blake2b(framed, digest_size=8).hexdigest()


def unit_interval(*parts: str) -> float:
    """Return a number in [0, 1) that depends on `parts` alone: the draw that splits traffic.

    >>> 0 <= unit_interval("late", "UA1545") < 1
    True
    """
    return int(short_digest(parts), 16) / 2**64
