"""Entity keys as bytes, and the keys of a view's records in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Ints
from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import content_hash
from homeostat.declare.views import FeatureView
from homeostat.features.state_format import STATE_FORMAT

__all__ = ["KeyCodec", "KeyInvalid", "older_prefix", "page_prefix", "view_prefix", "view_stem"]

LONGEST = 300
"""Longer keys are replaced by a digest: LMDB holds keys of up to 511 bytes."""


class KeyInvalid(HomeostatError, ValueError):
    """A key part of the wrong type."""

    def __init__(self, view: str, field: str, kind: str, got: object) -> None:
        super().__init__(
            f"view {view!r}, key {field!r}: {got!r} is a {type(got).__name__}; allowed: a {kind}, "
            "or None; send the type the event declares"
        )


def view_stem(view: FeatureView) -> bytes:
    """Return what every key of a view's state starts with: name, definition hash and format.

    A changed definition has another hash, so it never reads the state of the old one.
    """
    return f"view/{view.name}@{content_hash(view)[:12]}.{STATE_FORMAT}".encode()


def view_prefix(view: FeatureView) -> bytes:
    """Return what the keys of a view's records start with."""
    return view_stem(view) + b"/"


def older_prefix(view: FeatureView) -> bytes:
    """Return what the keys of the older rows of a view's records start with."""
    return view_stem(view) + b"-"


def page_prefix(view: FeatureView) -> bytes:
    """Return what the keys of the pages of a view's records start with."""
    return view_stem(view) + b"+"


class KeyCodec:
    """Writes an entity's key parts as bytes that no other key has.

    Parts are framed by their lengths, so ("a", "bc") and ("ab", "c") differ.
    """

    def __init__(self, view: FeatureView) -> None:
        self._view, self._fields = view.name, view.entity.keys
        schema = view.source.schema
        self._kinds = tuple(schema.field(key, view.name).kind for key in self._fields)
        self._is_text = self._kinds == ("string",)
        self._prefix = view_prefix(view)

    def key(self, parts: Sequence[Any]) -> bytes | None:
        """Return the store key of an entity, or None if a part of its key is missing."""
        if self._is_text and len(parts) == 1 and type(parts[0]) is str:
            raw = parts[0].encode("utf-8", "surrogatepass")
            return self._prefix + raw if len(raw) < LONGEST else self._digest(raw)
        if len(parts) != len(self._kinds):
            raise HomeostatError(
                f"view {self._view!r}: a key of {len(parts)} parts; allowed: "
                f"{len(self._kinds)} ({', '.join(self._fields)}); give one tuple per entity"
            )
        framed = b""
        for field, kind, part in zip(self._fields, self._kinds, parts, strict=True):
            raw_part = self._part(field, kind, part)
            if raw_part is None:
                return None
            framed += len(raw_part).to_bytes(4, "big") + raw_part
        if len(parts) == 1:
            framed = framed[4:]
        return self._prefix + framed if len(framed) < LONGEST else self._digest(framed)

    def grouped(self, events: pl.DataFrame) -> tuple[list[bytes], Ints]:
        """Return the different store keys of events, sorted, and for each event the place of its.

        None of the key columns may hold a null.
        """
        fields = list(self._fields)
        if self._is_text and len(fields) == 1:
            texts = events[fields[0]]
            if int(texts.str.len_bytes().max() or 0) < LONGEST:  # type: ignore[arg-type]
                return self._grouped_texts(texts)
        known = events.select(fields).unique(maintain_order=True)
        keys = self._keys(known)
        ranked = sorted(range(len(keys)), key=keys.__getitem__)  # stores like keys in their order
        rank = np.empty(len(keys), np.int64)
        rank[ranked] = np.arange(len(keys))
        keys = [keys[place] for place in ranked]
        if len(keys) == events.height:
            return keys, rank
        numbered = known.with_columns(_rank=pl.Series(rank))
        found = events.select(fields).join(numbered, on=fields, how="left", maintain_order="left")
        return keys, found["_rank"].to_numpy()

    def _grouped_texts(self, texts: pl.Series) -> tuple[list[bytes], Ints]:
        """Return what `grouped` does, for one text that is not too long."""
        known = texts.unique().sort()  # texts are in the order of their bytes, as keys are
        keys = [self._prefix + text.encode() for text in known.to_list()]
        codes = texts.cast(pl.Enum(known)).to_physical()
        return keys, codes.to_numpy().astype(np.int64)

    def _keys(self, entities: pl.DataFrame) -> list[bytes]:
        """Return the store key of each row; what `key` says, for many at once."""
        prefix = self._prefix
        if self._kinds == ("integer",):
            return [prefix + b"%d" % part for part in entities.to_series().to_list()]
        found = [self.key(parts) for parts in entities.iter_rows()]
        keys = [key for key in found if key is not None]
        if len(keys) < len(found):
            raise HomeostatError(f"view {self._view!r}: events with a missing part of the key")
        return keys

    def _part(self, field: str, kind: str, part: Any) -> bytes | None:
        if part is None:
            return None
        if kind == "string" and isinstance(part, str):
            return part.encode("utf-8", "surrogatepass")
        if kind == "boolean" and isinstance(part, bool):
            return b"\x01" if part else b"\x00"
        if kind == "integer" and isinstance(part, int) and not isinstance(part, bool):
            return b"%d" % part
        raise KeyInvalid(self._view, field, kind, part)

    def _digest(self, raw: bytes) -> bytes:
        return self._prefix + b"\xff" + hashlib.blake2b(raw, digest_size=32).digest()
