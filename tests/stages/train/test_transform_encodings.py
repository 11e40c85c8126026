"""Encodings of text: as scikit-learn makes them, alone as in a batch, defined for every text."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import murmurhash3_32

from homeostat.core.errors import MissingExtra
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
from homeostat.features.assemble import Features
from homeostat.train.dataset import Sample
from homeostat.train.encoding import Encoding, Floats, Texts, VectorEncoding
from homeostat.train.learn_encodings import learn_encoding
from homeostat.train.learned import encoding_as_json, encoding_of
from homeostat.train.murmur import murmur3
from homeostat.train.sentence_encoding import SentenceEncoding, SentenceModelRefused
from homeostat.train.token_encoding import tokens

PER_TRANSFORM = settings(max_examples=settings().max_examples // 3)


class LetterCounts:
    """Stands in for a sentence model: how often a text has each letter."""

    def __init__(self, model: str) -> None:
        self.letters = model

    def encode(self, texts: Sequence[str]) -> Floats:
        return np.array([[text.count(letter) for letter in self.letters] for text in texts], float)


LETTERS = SentenceEmbedding("x", model="abe l", width=3, encoder=f"{__name__}:LetterCounts")
ALL: list[Transform] = [
    TargetEncoding("x"),
    FrequencyEncoding("x"),
    OneHot("x", at_most=2),
    Hashing("x", buckets=7),
    Embedding("x", width=3),
    Tokens("x", width=8),
    Tokens("x", width=8, of="characters"),
    Tokens("x", width=8, by="hashing"),
    Tokens("x", width=8, by="hashing", of="characters"),
    LETTERS,
]
WORDS = ["late", "late crew", "ice on wing", "Ice", "a", "", " ", "bell", "été ✈", "ΑΣ", "İ"]
TEXT = st.one_of(st.none(), st.sampled_from(WORDS), st.text(max_size=8))
TEXTS = st.lists(TEXT, min_size=5, max_size=25)


def sample(texts: Texts) -> Sample:
    places = np.arange(len(texts))
    beside = [None if i % 7 == 0 else "xyz"[len(t or "") % 3] for i, t in enumerate(texts)]
    features = Features(np.full((len(texts), 2), np.nan), {"x": list(texts), "beside": beside})
    return Sample(features, places % 3 == 0)


def learned(transform: Transform, texts: Texts) -> tuple[Encoding, Floats]:
    return learn_encoding(transform, "x", sample(texts), seed=0)


@pytest.mark.parametrize("transform", ALL, ids=str)
@PER_TRANSFORM
@given(train=TEXTS, fresh=st.lists(TEXT, max_size=8))
def test_a_text_is_the_same_alone_as_in_a_batch_and_after_json(
    transform: Transform, train: Texts, fresh: Texts
) -> None:
    encoding, own = learned(transform, train)
    rows = [*train, *fresh]
    found = encoding.matrix(rows)
    assert found.shape == (len(rows), len(encoding.marks))
    assert own.shape == (len(train), len(encoding.marks))
    assert np.isfinite(found).all()
    restored = encoding_of(encoding_as_json(encoding))
    assert restored == encoding
    for row, text in enumerate(rows):
        alone = restored.matrix([text])
        assert alone.tobytes() == found[row : row + 1].tobytes()
    marked = found[:, np.array(encoding.marks)]
    assert set(np.unique(marked).tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("transform", ALL, ids=str)
def test_nothing_but_missing_still_works(transform: Transform) -> None:
    encoding, own = learned(transform, [None] * 6)
    assert np.isfinite(own).all()
    assert np.isfinite(encoding.matrix([None, "", "new"])).all()


@given(st.text(max_size=20).filter(lambda t: t.isprintable()))
def test_the_hash_is_scikit_learns(text: str) -> None:
    assert murmur3(text) == murmurhash3_32(text, seed=0)


@given(st.lists(st.text(max_size=9), min_size=1), st.integers(2, 40))
def test_buckets_are_scikit_learns(texts: list[str], buckets: int) -> None:
    oracle = FeatureHasher(buckets, input_type="string", alternate_sign=False)
    expected = oracle.transform([[text] for text in texts]).toarray()
    encoding, _ = learned(Hashing("x", buckets=buckets), [*texts, *texts, *texts, *texts, *texts])
    np.testing.assert_array_equal(encoding.matrix(texts), expected)


KINDS: dict[str, dict[str, Any]] = {
    "words": {},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}


@pytest.mark.parametrize("of", KINDS)
@given(train=st.lists(st.one_of(st.sampled_from(WORDS), st.text()), min_size=5), fresh=TEXTS)
def test_token_weights_are_scikit_learns(of: str, train: list[str], fresh: Texts) -> None:
    given_texts = [text or "" for text in fresh]
    if any(tokens(text, of) for text in train):
        oracle = TfidfVectorizer(max_features=6, **KINDS[of]).fit([t for t in train if t])
        expected = oracle.transform(given_texts).toarray()
        encoding, _ = learned(Tokens("x", width=6, of=of), train)
        found = encoding.matrix(fresh)
        np.testing.assert_allclose(found[:, : expected.shape[1]], expected, rtol=1e-12)
        assert not found[:, expected.shape[1] :].any()
    hashed, _ = learned(Tokens("x", width=16, of=of, by="hashing"), train)
    counted = HashingVectorizer(n_features=16, **KINDS[of]).transform(given_texts).toarray()
    np.testing.assert_allclose(hashed.matrix(fresh), counted, rtol=1e-12, atol=1e-15)


@given(TEXTS, st.lists(TEXT, min_size=1, max_size=8))
def test_marks_are_scikit_learns(train: Texts, fresh: Texts) -> None:
    seen = sorted({text for text in train if text is not None})
    encoding, _ = learned(OneHot("x", at_most=500), train)
    marks = encoding.matrix(fresh)
    if seen:
        oracle = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        oracle.fit(np.array(seen, object)[:, None])
        rows = np.array([text if text is not None else "\0none" for text in fresh], object)
        np.testing.assert_array_equal(marks[:, :-2], oracle.transform(rows[:, None]))
    assert (marks.sum(axis=1) == 1).all()
    assert marks[:, -1].tolist() == [float(text is None) for text in fresh]


def test_the_most_frequent_categories_are_marked_and_ties_go_by_name() -> None:
    encoding, _ = learned(OneHot("x", at_most=2), ["b", "a", "c", "c", "d", None, None, None])
    assert encoding_as_json(encoding)["categories"] == ["a", "c"]


def test_frequencies_are_shares_of_all_rows() -> None:
    encoding, own = learned(FrequencyEncoding("x"), ["a", "a", "b", None, "a"])
    assert encoding.matrix(["a", "b", None, "new"])[:, 0].tolist() == [0.6, 0.2, 0.2, 0.0]
    assert own[:, 0].tolist() == [0.6, 0.6, 0.2, 0.2, 0.6]


def test_categories_in_the_same_company_are_near_each_other() -> None:
    texts: list[str | None] = [*"abcd"] * 100
    color: list[str | None] = ["red", "red", "blue", "blue"] * 100
    features = Features(np.full((400, 2), np.nan), {"x": texts, "beside": color})
    labels = np.arange(400) % 3 == 0
    found, _ = learn_encoding(Embedding("x", width=2), "x", Sample(features, labels), 0)
    assert isinstance(found, VectorEncoding)
    a, b, c = (np.array(found.vectors[name]) for name in "abc")
    assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(a - c)
    assert found.unseen == (0.0, 0.0)
    assert np.linalg.norm(a) == pytest.approx(log(2))  # twice as often with its color as by chance


def test_an_embedding_reads_its_context_alone() -> None:
    texts = ["a", "b", "c", "a", "b", "c"]
    base = sample(texts)
    changed = Features(base.features.matrix, {**base.features.categories, "noise": list("qwerty")})
    with_noise = Sample(changed, base.labels)
    named = Embedding("x", width=2, context=("beside",))
    assert (
        learn_encoding(named, "x", with_noise, 0)[0]
        == learn_encoding(named, "x", base, 0)[0]
        != learn_encoding(Embedding("x", width=2), "x", with_noise, 0)[0]
    )


def test_a_sentence_model_that_is_not_installed_is_named() -> None:
    missing = SentenceEmbedding("x", model="all-MiniLM-L6-v2")
    with pytest.raises(MissingExtra, match=r"'all-MiniLM-L6-v2' .*homeostat\[text\]"):
        learned(missing, ["late"] * 5)


def test_sentences_are_projected_on_what_varies_most() -> None:
    train = ["aaaa", "a", "aa b", "b", "e", "aaaaaa"]
    encoding, own = learned(LETTERS, train)
    assert isinstance(encoding, SentenceEncoding)
    np.testing.assert_array_equal(own, encoding.matrix(train))
    counts = LetterCounts(LETTERS.model).encode(train)
    left, sizes, _ = np.linalg.svd(counts - counts.mean(axis=0), full_matrices=False)
    expected = left[:, :3] * sizes[:3]
    np.testing.assert_allclose(own @ own.T, expected @ expected.T, atol=1e-12)
    np.testing.assert_array_equal(encoding.matrix([None]), encoding.matrix([""]))


def test_another_sentence_model_under_the_same_name_is_refused() -> None:
    encoding, _ = learned(LETTERS, ["ab", "b", "el", "e", "l"])
    body = encoding_as_json(encoding)
    body["probe"] = [value + 1.0 for value in body["probe"]]
    with pytest.raises(SentenceModelRefused, match="another model than at training"):
        encoding_of(body).matrix(["ab"])
