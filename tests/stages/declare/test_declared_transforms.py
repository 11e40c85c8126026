"""Transforms as values: what is refused, in which words, and what stays out of old hashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import homeostat as hs
from homeostat.core.errors import DeclarationError, UnknownName
from homeostat.core.hashing import content_hash, plain
from homeostat.declare.chains import check_transforms
from homeostat.declare.transforms import Transform
from homeostat.testing.toy_training import toy_model

NAMES, TEXTS = ("distance", "carrier", "origin", "hour"), ("carrier", "origin")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: hs.Impute("x", by="mode"), "by='mode'; allowed: 'median' or 'mean' or"),
        (lambda: hs.Impute("x", by="constant"), "finite constant with by='constant'"),
        (lambda: hs.Impute("x", constant=1.0), "write by='constant', constant=0.0"),
        (lambda: hs.Impute("x", by="constant", constant=float("nan")), "finite constant"),
        (lambda: hs.Impute(()), "Impute of : no feature; allowed: one or more"),
        (lambda: hs.Scale(("x", "y"), by="max"), "Scale of x, y: by='max'"),
        (lambda: hs.Clip("x", low=0.5, high=0.5), "allowed: 0 <= low < high <= 1"),
        (lambda: hs.Clip("x", high=1.5), "allowed: 0 <= low < high <= 1"),
        (lambda: hs.Bins("x"), "count=None with 0 edges; allowed: one of count and edges"),
        (lambda: hs.Bins("x", count=4, edges=(1.0,)), "count=4 with 1 edges"),
        (lambda: hs.Bins("x", count=1), "count=1; allowed: a whole number from 2 to 512"),
        (lambda: hs.Bins("x", edges=(2.0, 1.0)), "numbers that rise"),
        (lambda: hs.Bins("x", edges=(float("inf"),)), "finite numbers"),
        (lambda: hs.OneHot("x", at_most=0), "at_most=0; allowed: a whole number from 1"),
        (lambda: hs.OneHot("x", at_most=513), "at_most=513; allowed: .* to 512"),
        (lambda: hs.TargetEncoding("x", smooth=-1.0), "smooth=-1.0"),
        (lambda: hs.Hashing("x", buckets=1), "buckets=1; allowed: a whole number from 2"),
        (lambda: hs.Embedding("x", width=0), "width=0"),
        (lambda: hs.Tokens("x", by="bm25"), "by='bm25'; allowed: 'tf_idf' or 'hashing'"),
        (lambda: hs.Tokens("x", of="letters"), "of='letters'; allowed: 'words' or 'characters'"),
        (lambda: hs.SentenceEmbedding("x", model="m", encoder="torch"), "allowed: module:Class"),
    ],
)
def test_a_transform_that_cannot_be_is_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(DeclarationError, match=text):
        make()


@pytest.mark.parametrize(
    ("transforms", "error", "text"),
    [
        ((hs.Log("distanse"),), UnknownName, "model 'm', Log of distanse: .* mean 'distance'"),
        ((hs.Hashing("hour"),), DeclarationError, "feature 'hour' is a number; allowed: text"),
        ((hs.Tokens("distance"),), DeclarationError, "feature 'distance' is a number"),
        (
            (hs.Scale("carrier"), hs.OneHot("carrier")),
            DeclarationError,
            "is encoded after its numbers are changed; allowed: encodings first; move",
        ),
        (
            (hs.OneHot("hour"), hs.Scale("hour")),
            DeclarationError,
            "Scale of hour: nothing but marks is left of 'hour'",
        ),
        ((hs.Bins("hour", count=3, marks=True), hs.Log("hour")), DeclarationError, "but marks"),
        (
            (hs.Embedding("carrier", context=("origin", "hour")),),
            UnknownName,
            "context: no text feature named 'hour'",
        ),
        (
            (hs.Embedding("carrier", context=("carrier",)),),
            DeclarationError,
            "no other text feature to compare with",
        ),
    ],
)
def test_transforms_that_do_not_fit_the_model_are_refused(
    transforms: tuple[Transform, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        check_transforms(transforms, NAMES, TEXTS, "model 'm'")


@pytest.mark.parametrize(
    "transforms",
    [
        (hs.Scale("carrier"),),  # the default encoding, scaled
        (hs.TargetEncoding("carrier"), hs.OneHot("carrier"), hs.Scale("carrier")),
        (hs.Impute("hour", indicator=True), hs.Clip("hour"), hs.Bins("hour", count=4)),
        (hs.Bins("hour", count=4), hs.TargetEncoding("hour")),
        (hs.Embedding("carrier", context=("origin",)), hs.Embedding("origin")),
    ],
)
def test_transforms_that_fit_are_taken(transforms: tuple[Transform, ...]) -> None:
    check_transforms(transforms, NAMES, TEXTS, "model 'm'")


def test_a_model_checks_its_transforms() -> None:
    with pytest.raises(UnknownName, match="model 'late_arrival', Log of hours"):
        toy_model(transforms=(hs.Log("hours"),))
    with pytest.raises(DeclarationError, match="no other text feature"):
        toy_model(transforms=(hs.Embedding("carrier"),))
    assert toy_model().text_features() == ("carrier",)


def test_features_are_named_by_reference_or_by_text() -> None:
    reference = hs.FeatureRef("airport", "delay_mean_1h")
    assert hs.Log(reference).names == ("airport__delay_mean_1h",)
    assert hs.Log([reference, "hour"]).names == ("airport__delay_mean_1h", "hour")
    assert hs.Log(reference) == hs.Log("airport__delay_mean_1h")


def test_a_model_without_transforms_hashes_as_before_there_were_any() -> None:
    assert "transforms" not in plain(toy_model())
    assert content_hash(toy_model()) == content_hash(replace(toy_model(), transforms=()))


def test_every_transform_is_part_of_the_hash() -> None:
    declared: list[tuple[Transform, ...]] = [
        (),
        (hs.Log("hour"),),
        (hs.Log("distance"),),
        (hs.Log(("hour", "distance")),),
        (hs.Log("hour"), hs.Scale("hour")),
        (hs.Scale("hour"), hs.Log("hour")),
        (hs.Log("hour"), hs.Scale("hour", by="robust")),
        (hs.OneHot("carrier", at_most=2),),
        (hs.OneHot("carrier", at_most=3),),
    ]
    hashes = {content_hash(toy_model(transforms=transforms)) for transforms in declared}
    assert len(hashes) == len(declared)
