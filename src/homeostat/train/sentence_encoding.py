"""Texts as embeddings of a sentence model that is installed on the machine; optional."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from homeostat.core.errors import HomeostatError, MissingExtra
from homeostat.train.encoding import Floats, Texts

__all__ = ["SentenceEncoding", "SentenceModelRefused", "embedded"]

PROBE = "The quick brown fox jumps over the lazy dog."
"""Embedded at training and at loading: another model under the same name is found out."""

TOLERANCE = 1e-5
"""Largest difference of the probe, for machines that round differently."""


class SentenceModelRefused(HomeostatError):
    """The sentence model is not the one that the package was trained with."""


@dataclass(frozen=True)
class SentenceEncoding:
    """Directions of greatest variation of a sentence model's embeddings.

    `center` has the embedding's dimensions, `directions` is (columns, dimensions), `probe` is what
    the model made of a fixed sentence at training.
    """

    encoder: str
    model: str
    center: tuple[float, ...] = field(repr=False)
    directions: tuple[tuple[float, ...], ...] = field(repr=False)
    probe: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "center", tuple(self.center))
        object.__setattr__(self, "directions", tuple(map(tuple, self.directions)))
        object.__setattr__(self, "probe", tuple(self.probe))

    @property
    def marks(self) -> tuple[bool, ...]:
        """Columns of numbers."""
        return (False,) * len(self.directions)

    @cached_property
    def _arrays(self) -> tuple[Floats, Floats]:
        found, kept = _vector(self.encoder, self.model, PROBE), np.array(self.probe)
        if found.shape != kept.shape or np.abs(found - kept).max(initial=0.0) > TOLERANCE:
            raise SentenceModelRefused(
                f"sentence model {self.model!r}: another model than at training; allowed: the "
                "same weights; install them, or train again."
            )
        return np.array(self.center), np.array(self.directions)

    def matrix(self, texts: Texts) -> Floats:
        """Return the columns of n texts, float64 (n, columns)."""
        center, directions = self._arrays
        matrix = np.empty((len(texts), len(directions)))
        known: dict[str, Floats] = {}
        for row, text in enumerate(texts):
            key = text or ""
            if key not in known:
                away = _vector(self.encoder, self.model, key) - center
                known[key] = (directions * away).sum(axis=1)
            matrix[row] = known[key]
        return matrix


def embedded(encoder: str, model: str, texts: Texts) -> Floats:
    """Return the embeddings of n texts, float64 (n, dimensions), one text at a time.

    A batch would be padded to its longest text, and a text's bits would depend on its neighbours.

    Raises:
        MissingExtra: the package that embeds is not installed.
    """
    return np.stack([_vector(encoder, model, text or "") for text in texts])


@lru_cache(maxsize=1 << 14)
def _vector(encoder: str, model: str, text: str) -> Floats:
    found = _model(encoder, model)([text])
    vector: Floats = np.asarray(found, np.float64)[0]
    vector.setflags(write=False)
    return vector


@lru_cache(maxsize=4)
def _model(encoder: str, model: str) -> Callable[[list[str]], Any]:
    module, _, name = encoder.partition(":")
    try:
        kind = getattr(import_module(module), name)
    except ModuleNotFoundError as missing:
        raise MissingExtra(f"sentence model {model!r}", "text") from missing
    local = {"local_files_only": True, "device": "cpu"} if module == "sentence_transformers" else {}
    encode: Callable[[list[str]], Any] = kind(model, **local).encode
    return encode
