"""Learns how a text feature becomes columns, from the training rows alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from homeostat.declare.encodings import (
    Embedding,
    FrequencyEncoding,
    Hashing,
    OneHot,
    SentenceEmbedding,
    TargetEncoding,
    Tokens,
)
from homeostat.declare.transforms import Transform
from homeostat.train.dataset import Sample
from homeostat.train.encoding import (
    BucketEncoding,
    CategoryEncoding,
    Encoding,
    Floats,
    OneHotEncoding,
    Texts,
    VectorEncoding,
)
from homeostat.train.sentence_encoding import PROBE, SentenceEncoding, embedded
from homeostat.train.target_rates import target_rates
from homeostat.train.token_encoding import GROUPS, HashedTokenEncoding, TokenEncoding, tokens

__all__ = ["learn_encoding"]

MISSING = -1.0
"""Stands for a missing category where categories are numbered from 0."""

SENTENCES = 5_000
"""The directions of sentence embeddings are found on at most so many different texts."""


def learn_encoding(
    transform: Transform, name: str, train: Sample, seed: int
) -> tuple[Encoding, Floats]:
    """Learn one encoding of a text feature.

    Args:
        transform: what is declared.
        name: the feature.
        train: the training rows.
        seed: of everything random.

    Returns:
        The encoding, and the training rows' own columns, float64 (n, columns): those of
        `encoding.matrix`, save that no row is encoded from its own label.
    """
    if isinstance(transform, TargetEncoding):
        return _target(transform, train.features.categories[name], train, seed)
    encoding = _LEARN[type(transform)](transform, name, train, seed)
    return encoding, encoding.matrix(train.features.categories[name])


def _target(
    transform: TargetEncoding, texts: Texts, train: Sample, seed: int
) -> tuple[Encoding, Floats]:
    numbers = {category: float(i) for i, category in enumerate(sorted(_given(texts)))}
    ordinals = CategoryEncoding(numbers, missing=MISSING, unseen=np.nan).column(texts)
    rates = target_rates(ordinals, train.labels, transform.smooth, seed)
    encoding = CategoryEncoding(
        {category: rates.by_value[number] for category, number in numbers.items()},
        missing=rates.by_value.get(MISSING, rates.overall),
        unseen=rates.overall,
    )
    return encoding, rates.column[:, None]


def _frequency(transform: FrequencyEncoding, name: str, train: Sample, seed: int) -> Encoding:
    counts = Counter(train.features.categories[name])
    shares = {category: count / len(train) for category, count in counts.items()}
    missing = shares.pop(None, 0.0)
    codes = {category: shares[category] for category in sorted(shares, key=str)}
    return CategoryEncoding(
        {str(category): share for category, share in codes.items()}, missing, unseen=0.0
    )


def _one_hot(transform: OneHot, name: str, train: Sample, seed: int) -> Encoding:
    counts = Counter(text for text in train.features.categories[name] if text is not None)
    frequent = sorted(counts, key=lambda category: (-counts[category], category))
    return OneHotEncoding(tuple(sorted(frequent[: transform.at_most])))


def _hashing(transform: Hashing, name: str, train: Sample, seed: int) -> Encoding:
    return BucketEncoding(transform.buckets)


def _embedding(transform: Embedding, name: str, train: Sample, seed: int) -> Encoding:
    from scipy.sparse import coo_matrix, hstack

    own = train.features.categories[name]
    places = {text: row for row, text in enumerate(sorted({*own}, key=_missing_last))}
    rows = np.array([places[text] for text in own])
    blocks = []
    for other in transform.context or [n for n in train.features.categories if n != name]:
        beside = train.features.categories[other]
        columns = {text: i for i, text in enumerate(sorted({*beside}, key=_missing_last))}
        at = np.array([columns[text] for text in beside])
        shape = (len(places), len(columns))
        blocks.append(_informative(coo_matrix((np.ones(len(own)), (rows, at)), shape=shape)))
    vectors = _decomposed(hstack(blocks).tocsr(), transform.width, seed)
    origin = (0.0,) * transform.width
    by_text = {text: tuple(vectors[row].tolist()) for text, row in places.items()}
    missing = by_text.pop(None, origin)
    return VectorEncoding(
        {str(text): vector for text, vector in by_text.items()}, missing=missing, unseen=origin
    )


def _informative(counts: Any) -> Any:
    """Return the positive pointwise mutual information of joint counts, as a sparse matrix."""
    counts = counts.tocsr().tocoo()  # repeated pairs are summed
    total = counts.sum()
    rows, columns = np.ravel(counts.sum(axis=1)), np.ravel(counts.sum(axis=0))
    surprise = np.log(counts.data * total / (rows[counts.row] * columns[counts.col]))
    counts.data = np.maximum(surprise, 0.0)
    return counts


def _decomposed(matrix: Any, width: int, seed: int) -> Floats:
    """Return the rows of a matrix in its `width` main directions, padded with 0."""
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    found = np.zeros((matrix.shape[0], width))
    rank = min(width, *matrix.shape)
    if rank and matrix.nnz and abs(matrix).sum() > 0:
        with threadpool_limits(limits=1):  # more would add partial sums in another order
            kept = TruncatedSVD(rank, random_state=seed).fit_transform(matrix)
        found[:, :rank] = kept
    return found + 0.0


def _tokens(transform: Tokens, name: str, train: Sample, seed: int) -> Encoding:
    if transform.by == "hashing":
        return HashedTokenEncoding(transform.width, transform.of)
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text for text in train.features.categories[name] if text]
    if not any(tokens(text, transform.of) for text in _given(texts)):
        return TokenEncoding((), (), transform.width, transform.of)
    kind: dict[str, Any] = {"max_features": transform.width}
    if transform.of == "characters":
        kind |= {"analyzer": "char_wb", "ngram_range": GROUPS}
    vectorizer = TfidfVectorizer(**kind).fit(texts)
    vocabulary = vectorizer.get_feature_names_out().tolist()
    return TokenEncoding(
        tuple(vocabulary), tuple(vectorizer.idf_.tolist()), transform.width, transform.of
    )


def _sentences(transform: SentenceEmbedding, name: str, train: Sample, seed: int) -> Encoding:
    given = sorted(_given(train.features.categories[name])) or [""]
    picked = np.linspace(0, len(given) - 1, min(len(given), SENTENCES), dtype=np.int64)
    texts = [given[place] for place in picked.tolist()]
    vectors = embedded(transform.encoder, transform.model, texts)
    center = vectors.mean(axis=0)
    return SentenceEncoding(
        encoder=transform.encoder,
        model=transform.model,
        center=tuple(center.tolist()),
        directions=tuple(map(tuple, _directions(vectors - center, transform.width).tolist())),
        probe=tuple(embedded(transform.encoder, transform.model, [PROBE])[0].tolist()),
    )


def _directions(vectors: Floats, width: int) -> Floats:
    """Return the main directions of centred vectors, (width, dimensions), padded with 0."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        _, _, found = np.linalg.svd(vectors, full_matrices=False)
    largest = np.abs(found).argmax(axis=1)
    signs = np.sign(found[np.arange(len(found)), largest])
    kept = (found * signs[:, None])[:width]
    padding: Floats = np.zeros((width - len(kept), vectors.shape[1]))
    return np.concatenate([kept, padding]) + 0.0


def _given(texts: Texts) -> set[str]:
    return {text for text in texts if text is not None}


def _missing_last(text: str | None) -> tuple[bool, str]:
    return text is None, text or ""


_LEARN: dict[type, Callable[[Any, str, Sample, int], Encoding]] = {
    FrequencyEncoding: _frequency,
    OneHot: _one_hot,
    Hashing: _hashing,
    Embedding: _embedding,
    Tokens: _tokens,
    SentenceEmbedding: _sentences,
}
