"""What transforms learned, as JSON and back: the form it has in a package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from homeostat.core.hashing import plain
from homeostat.train.encoding import (
    BucketEncoding,
    CategoryEncoding,
    Encoding,
    JoinedEncoding,
    OneHotEncoding,
    VectorEncoding,
)
from homeostat.train.sentence_encoding import SentenceEncoding
from homeostat.train.steps import (
    Binned,
    Chain,
    Clipped,
    Coded,
    Imputed,
    Logged,
    Marked,
    Scaled,
    Step,
)
from homeostat.train.token_encoding import HashedTokenEncoding, TokenEncoding

__all__ = ["chains_as_json", "chains_of", "encoding_as_json", "encoding_of"]

JSON = Any

_ENCODINGS: Mapping[str, type] = {
    "categories": CategoryEncoding,
    "one_hot": OneHotEncoding,
    "buckets": BucketEncoding,
    "vectors": VectorEncoding,
    "tokens": TokenEncoding,
    "hashed_tokens": HashedTokenEncoding,
    "sentences": SentenceEncoding,
}
_STEPS: Mapping[str, type] = {
    "impute": Imputed,
    "clip": Clipped,
    "scale": Scaled,
    "log": Logged,
    "bin": Binned,
    "code": Coded,
    "mark": Marked,
}
_NAMES = {kind: name for known in (_ENCODINGS, _STEPS) for name, kind in known.items()}


def encoding_as_json(encoding: Encoding) -> dict[str, JSON]:
    """Return an encoding as JSON types; a plain CategoryEncoding needs no kind.

    >>> encoding_as_json(BucketEncoding(8))
    {'kind': 'buckets', 'buckets': 8}
    """
    if isinstance(encoding, JoinedEncoding):
        return {"kind": "joined", "parts": [encoding_as_json(part) for part in encoding.parts]}
    body = _as_json(encoding)
    if isinstance(encoding, CategoryEncoding):
        del body["kind"]
    return body


def encoding_of(body: Mapping[str, JSON]) -> Encoding:
    """Return the encoding that `encoding_as_json` wrote.

    >>> encoding_of({"kind": "buckets", "buckets": 8})
    BucketEncoding(buckets=8)
    """
    if body.get("kind") == "joined":
        return JoinedEncoding(tuple(map(encoding_of, body["parts"])))
    kept = {name: value for name, value in body.items() if name != "kind"}
    encoding: Encoding = _ENCODINGS[body.get("kind", "categories")](**kept)
    return encoding


def chains_as_json(chains: Mapping[str, tuple[Chain, ...]]) -> dict[str, JSON]:
    """Return the chains of every feature as JSON types.

    >>> chains_as_json({"x": ((Logged(),),)})
    {'x': [[{'kind': 'log'}]]}
    """
    return {
        name: [[_as_json(step) for step in chain] for chain in columns]
        for name, columns in chains.items()
    }


def chains_of(body: Mapping[str, Sequence[Sequence[JSON]]]) -> dict[str, tuple[Chain, ...]]:
    """Return the chains that `chains_as_json` wrote."""
    return {
        name: tuple(tuple(map(_step, chain)) for chain in columns) for name, columns in body.items()
    }


def _step(body: Mapping[str, JSON]) -> Step:
    kept = {name: value for name, value in body.items() if name != "kind"}
    step: Step = _STEPS[body["kind"]](**kept)
    return step


def _as_json(value: Any) -> dict[str, JSON]:
    found = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return {"kind": _NAMES[type(value)], **found}
