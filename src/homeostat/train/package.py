"""A trained model as a folder of plain files whose hash says what it does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import canonical_json, content_hash, plain
from homeostat.train.encoding import Encoding
from homeostat.train.fit import Fitted
from homeostat.train.inputs import Inputs
from homeostat.train.learned import chains_as_json, chains_of, encoding_as_json, encoding_of
from homeostat.train.lineage import Lineage
from homeostat.train.steps import Chain

__all__ = ["Origin", "Package", "PackageCorrupt", "differences", "keep_former"]

FORMAT = 1
"""The layout of the folder; raised when an older reader could misread a newer folder."""

MANIFEST, GRAPH, NATIVE, REFERENCE = "manifest.json", "model.onnx", "native.txt", "reference.json"

FORMER = "former.json"
"""What an earlier release had declared, beside a package of its own; no part of the package."""

JSON = Any
"""None, booleans, numbers, texts, lists and mappings of them."""


class PackageCorrupt(HomeostatError):
    """A package's folder does not hold what was saved."""

    def __init__(self, file: Path, found: str, expected: str) -> None:
        self.file, self.found, self.expected = file, found, expected
        super().__init__(
            f"package file {file.name!r} in {file.parent.name!r}: found {found}; allowed: "
            f"{expected}; restore the folder from a copy, or rebuild the model from its lineage."
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """What a package keeps about its making: feature definitions, drift reference, lineage.

    `declared` is the manifest of its features: what computes them, as JSON.
    """

    definitions: Mapping[str, str]
    reference: Mapping[str, JSON] = field(repr=False)
    lineage: Lineage
    declared: Mapping[str, JSON] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Package:
    """A model ready to serve, with what is needed to judge, watch, explain and rebuild it.

    `encodings` has every text feature, `chains` the features whose numbers are transformed.
    `definitions` are the hashes of the features' definitions. `declared` are the definitions
    themselves (`features/manifest.py`; empty in a package of an earlier release), by which its
    features are computed whatever is declared today. `former` is what was declared when such a
    package was met: its hashes, not its words, say whether that is what it was trained by; it is
    written down beside the package, and changes nothing of it. `reference` are the sketches of the
    training data for drift, `metrics` what evaluation found, `importance` each feature's share of
    the gain. Two packages with the same `hash` score, decide and are watched alike.
    """

    name: str
    features: tuple[str, ...]
    encodings: Mapping[str, Encoding]
    chains: Mapping[str, tuple[Chain, ...]]
    graph: bytes = field(repr=False)
    native: str | None = field(repr=False)
    threshold: float
    definitions: Mapping[str, str]
    reference: Mapping[str, JSON] = field(repr=False)
    metrics: Mapping[str, JSON]
    importance: Mapping[str, float]
    lineage: Lineage
    declared: Mapping[str, JSON] = field(default_factory=dict, repr=False)
    former: Mapping[str, JSON] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("definitions", "reference", "metrics", "importance", "declared"):
            object.__setattr__(self, name, plain(getattr(self, name)))

    @classmethod
    def of(
        cls,
        fitted: Fitted,
        name: str,
        threshold: float,
        origin: Origin,
        metrics: Mapping[str, JSON],
    ) -> Package:
        """Return the package of a fitted model."""
        return cls(
            name=name,
            features=fitted.inputs.names,
            encodings=fitted.inputs.encodings,
            chains=fitted.inputs.chains,
            graph=fitted.graph,
            native=fitted.native,
            threshold=float(threshold),
            definitions=origin.definitions,
            reference=origin.reference,
            metrics=metrics,
            importance=fitted.importance,
            lineage=origin.lineage,
            declared=origin.declared,
        )

    @cached_property
    def inputs(self) -> Inputs:
        """What turns features into the columns of the graph."""
        return Inputs(self.features, self.encodings, self.chains)

    @cached_property
    def hash(self) -> str:
        """The content hash of what the package does; its lineage takes no part.

        The same bits trained at another instant, or by other library versions, are the same model.
        """
        return content_hash(
            {
                "name": self.name,
                "features": self.features,
                "encodings": self.encodings,
                "graph": _sha256(self.graph),
                "native": None if self.native is None else _sha256(self.native.encode()),
                "threshold": self.threshold,
                "definitions": self.definitions,
                "reference": self.reference,
                "metrics": self.metrics,
                "importance": self.importance,
                **self._later(),
            }
        )

    def _later(self) -> dict[str, JSON]:
        """Return what earlier releases did not have, if it is there: else all is as it was."""
        chains = {"chains": chains_as_json(self.chains)} if self.chains else {}
        return {**chains, **({"declared": self.declared} if self.declared else {})}

    def save(self, folder: Path) -> None:
        """Write the package into `folder`, the manifest last: without it the folder is refused."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        files = {GRAPH: self.graph, REFERENCE: canonical_json(self.reference).encode()}
        if self.native is not None:
            files[NATIVE] = self.native.encode()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        body = {
            "format": FORMAT,
            "hash": self.hash,
            "files": {name: _sha256(content) for name, content in files.items()},
            "name": self.name,
            "features": list(self.features),
            "encodings": {name: encoding_as_json(e) for name, e in self.encodings.items()},
            "threshold": self.threshold,
            "definitions": self.definitions,
            "metrics": self.metrics,
            "importance": self.importance,
            "lineage": self.lineage.as_json(),
            **self._later(),
        }
        body["manifest_hash"] = content_hash(body)
        written = folder / f".{MANIFEST}"
        written.write_text(json.dumps(body, indent=1, sort_keys=True), encoding="utf-8")
        written.replace(folder / MANIFEST)

    @classmethod
    def load(cls, folder: Path) -> Package:
        """Read a package and prove that it is the one that was saved.

        Raises:
            PackageCorrupt: a file is missing, cut short or changed; names it, with both hashes.
        """
        body = _read_manifest(folder)
        content = {name: _read(folder / name, sha256) for name, sha256 in body["files"].items()}
        package = cls(
            name=body["name"],
            features=tuple(body["features"]),
            encodings={name: encoding_of(e) for name, e in body["encodings"].items()},
            chains=chains_of(body.get("chains", {})),
            graph=content[GRAPH],
            native=content[NATIVE].decode() if NATIVE in content else None,
            threshold=body["threshold"],
            definitions=body["definitions"],
            reference=json.loads(content[REFERENCE]),
            metrics=body["metrics"],
            importance=body["importance"],
            lineage=Lineage(**body["lineage"]),
            declared=body.get("declared", {}),
            former=_former(folder),
        )
        if package.hash != body["hash"]:
            raise PackageCorrupt(
                folder / MANIFEST, f"content hash {package.hash}", f"content hash {body['hash']}"
            )
        return package


def keep_former(folder: Path, manifest: Mapping[str, JSON]) -> None:
    """Write down beside a package what was declared when it was met, unless that is there."""
    if not (folder / FORMER).exists():
        written = folder / f".{FORMER}"
        written.write_text(canonical_json(manifest), encoding="utf-8")
        written.replace(folder / FORMER)


def _former(folder: Path) -> dict[str, Any]:
    path = folder / FORMER
    if not path.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as broken:
        raise PackageCorrupt(path, f"no JSON ({broken})", "what was declared then") from broken
    return found


def differences(left: Package, right: Package) -> tuple[str, ...]:
    """Return the names of the parts in which two packages differ, lineage included."""
    return tuple(
        part.name
        for part in fields(Package)
        if part.compare and getattr(left, part.name) != getattr(right, part.name)
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    raw = _read(path, None)
    try:
        body = json.loads(raw)
    except ValueError as broken:
        raise PackageCorrupt(path, f"no JSON ({broken})", "the manifest as saved") from broken
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        found = body.get("format") if isinstance(body, dict) else type(body).__name__
        raise PackageCorrupt(path, f"format {found!r}", f"format {FORMAT}")
    expected = body.pop("manifest_hash", None)
    found_hash = content_hash(body)
    if found_hash != expected:
        raise PackageCorrupt(path, f"manifest hash {found_hash}", f"manifest hash {expected}")
    return body


def _read(path: Path, sha256: str | None) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as missing:
        expected = "the file" if sha256 is None else f"SHA-256 {sha256}"
        raise PackageCorrupt(path, "no such file", expected) from missing
    if sha256 is not None and _sha256(content) != sha256:
        raise PackageCorrupt(path, f"SHA-256 {_sha256(content)}", f"SHA-256 {sha256}")
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
