"""The transforms of one feature, in their order, and whether they can follow each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homeostat.core.errors import UnknownName
from homeostat.declare.encodings import Embedding, TargetEncoding
from homeostat.declare.mistakes import report, require
from homeostat.declare.transforms import Transform

__all__ = ["chain_of", "check_transforms"]


def chain_of(transforms: Iterable[Transform], feature: str, is_text: bool) -> list[Transform]:
    """Return the transforms of a feature; a text without an encoding begins with its default.

    >>> chain_of((), "carrier", is_text=True)
    [TargetEncoding(features=('carrier',), smooth=None)]
    >>> chain_of((), "distance", is_text=False)
    []
    """
    chain = [transform for transform in transforms if feature in transform.names]
    if is_text and not any("text" in transform.takes for transform in chain):
        return [TargetEncoding((feature,)), *chain]
    return chain


def check_transforms(
    transforms: Sequence[Transform], names: Sequence[str], texts: Sequence[str], where: str
) -> None:
    """Report transforms of unknown features, of the wrong kind, or in an order that cannot be.

    Args:
        transforms: as declared.
        names: the model's features.
        texts: those of them that are text.
        where: the model, for the errors.
    """
    for transform in transforms:
        for name in transform.names:
            if name not in names:
                report(UnknownName("feature", name, names, f"{where}, {transform.where}"))
        if isinstance(transform, Embedding):
            _check_context(transform, texts, where)
    for name in names:
        _check_chain(name, chain_of(transforms, name, name in texts), name in texts, where)


def _check_context(embedding: Embedding, texts: Sequence[str], where: str) -> None:
    place = f"{where}, {embedding.where}"
    for name in embedding.context:
        if name not in texts:
            report(UnknownName("text feature", name, texts, f"{place}, context"))
    for name in embedding.names:
        others = set(embedding.context or texts) - {name}
        require(
            bool(others),
            place,
            "no other text feature to compare with",
            "a model with two or more text features",
            "add one, or use TargetEncoding",
        )


def _check_chain(name: str, chain: Sequence[Transform], is_text: bool, where: str) -> None:
    for before, transform in zip([None, *chain], chain, strict=False):
        place = f"{where}, {transform.where}"
        if is_text and "text" in transform.takes:
            require(
                before is None or "text" in before.takes,
                place,
                f"text feature {name!r} is encoded after its numbers are changed",
                "encodings first",
                "move the encoding up",
            )
            continue
        require(
            is_text or "number" in transform.takes,
            place,
            f"feature {name!r} is a number",
            "text features",
            "use OneHot, TargetEncoding, FrequencyEncoding or Bins",
        )
        replaced = before is not None and (before.is_final or getattr(before, "marks", False))
        require(
            is_text or not replaced,
            place,
            f"nothing but marks is left of {name!r}",
            "OneHot and Bins(marks=True) last",
            "change the order",
        )
