"""Content hashes: the same value gives the same text on every machine and run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from homeostat.core.code_meaning import former_meaning, meaning
from homeostat.core.errors import HomeostatError

__all__ = [
    "SAID_AS",
    "SAID_OF_ITSELF",
    "SAYS_ALL",
    "UNSET_IS_UNSAID",
    "canonical_json",
    "content_hash",
    "former_source_hash",
    "plain",
    "short_digest",
    "source_hash",
    "unit_interval",
]


UNSET_IS_UNSAID: Mapping[str, bool] = {"unset_is_unsaid": True}
"""Metadata of a dataclass field that was added later: at its default it is not part of the hash,
so what was hashed before it was there still has the same hash."""

SAID_OF_ITSELF: Mapping[str, bool] = {"said_of_itself": True, **UNSET_IS_UNSAID}
"""Metadata of an `UNSET_IS_UNSAID` field that does not matter to others: it is left out where the
dataclass is a part of another one, unless that names it in a `SAYS_ALL` field."""

SAYS_ALL: Mapping[str, bool] = {"says_all": True}
"""Metadata of a field that lists other declarations, with what is `SAID_OF_ITSELF`."""


SAID_AS = "said_as"
"""Metadata key of a dataclass field whose values changed their meaning: by value, what is hashed in
its place, so that a value which means what another one did is hashed as that one was."""


def plain(value: object) -> Any:
    """Return `value` as JSON types; frozen dataclasses become tagged mappings.

    Fields that take no part in comparison are left out, and so is an `UNSET_IS_UNSAID` field that
    is not set, and a `SAID_OF_ITSELF` field inside of others. Mappings and sets are ordered by key;
    functions are named by their qualified name and source hash.
    """
    return _plain(value, True)


def _plain(value: object, says_all: bool) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if is_dataclass(value) and not isinstance(value, type):
        body = {
            f.name: _plain(_said_as(f, value), "says_all" in f.metadata)
            for f in fields(value)
            if _is_said(f, value) and (says_all or "said_of_itself" not in f.metadata)
        }
        return {"type": type(value).__name__, **body}
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key], says_all) for key in sorted(value, key=str)}
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, says_all) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [_plain(item, says_all) for item in value]
    if isinstance(value, type):
        return {"class": f"{value.__module__}.{value.__qualname__}"}
    if callable(value):
        return {"function": getattr(value, "__qualname__", "?"), "source": source_hash(value)}
    raise HomeostatError(
        f"a {type(value).__name__} has no content hash: {value!r}; allowed: plain values, "
        "collections and dataclasses of them, functions; convert it first"
    )


def _said_as(field: Field[Any], owner: object) -> object:
    value = getattr(owner, field.name)
    return field.metadata[SAID_AS].get(value, value) if SAID_AS in field.metadata else value


def _is_said(field: Field[Any], owner: object) -> bool:
    is_unset = "unset_is_unsaid" in field.metadata and getattr(owner, field.name) == field.default
    return field.compare and not is_unset


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
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def source_hash(function: Callable[..., object]) -> str:
    """Return a hash of what a function does.

    That is its source text (or its code where no source can be read), and what it takes from
    around it: constants, functions and classes of its module, its closure, and other modules of
    the user (`core/code_meaning.py`).
    """
    return content_hash(meaning(function))


def former_source_hash(function: Callable[..., object]) -> str:
    """Return the hash that packages of earlier releases have of a function (`former_meaning`)."""
    return content_hash(former_meaning(function))


def short_digest(parts: Iterable[str]) -> str:
    """Return 16 hexadecimal digits that identify `parts` in their order.

    >>> short_digest(["a", "b"]) != short_digest(["ab", ""])
    True
    """
    encoded = (part.encode("utf-8", "surrogatepass") for part in parts)
    framed = b"".join(len(raw).to_bytes(4, "big") + raw for raw in encoded)
    return hashlib.blake2b(framed, digest_size=8).hexdigest()


def unit_interval(*parts: str) -> float:
    """Return a number in [0, 1) that depends on `parts` alone: the draw that splits traffic.

    >>> 0 <= unit_interval("late", "UA1545") < 1
    True
    """
    return int(short_digest(parts), 16) / 2**64
