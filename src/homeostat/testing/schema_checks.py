"""The laws of a schema registry, as checks that anybody can run on an adapter of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.schema_versions import SchemaRegistry, UnknownSchemaVersion, content_of
from homeostat.testing.laws import LawBroken, hold

__all__ = ["schema_registry_checks"]

_FIRST = EventSchema(
    "Tap",
    (
        Field("tap", "string"),
        Field("at", "timestamp", default="2013-01-01T00:00:00Z"),
        Field("holder", "string", nullable=True, tags=frozenset({"personal"})),
        Field("items", "integer", aliases=("number",)),
        Field("is_refund", "boolean", default=False),
    ),
)
_SECOND = EventSchema("Tap", (*_FIRST.fields, Field("amount", "float", nullable=True, default=0.5)))


def schema_registry_checks(
    open_registry: Callable[[str], SchemaRegistry],
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield (name, check); `open_registry(name)` opens the one of that name, new or as it was left.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from homeostat.ingest.sqlite_schemas import SqliteSchemas
    >>> with TemporaryDirectory() as folder:
    ...     for name, check in schema_registry_checks(lambda n: SqliteSchemas(Path(folder, n))):
    ...         check()
    """

    def a_new_source_has_no_version() -> None:
        with closing(open_registry("empty")) as registry:
            hold(registry.list("taps") == (), "nothing is listed")
            for version in (0, 1):
                try:
                    registry.get("taps", version)
                except UnknownSchemaVersion:
                    continue
                raise LawBroken(f"version {version} is not there")

    def versions_count_from_one_and_are_listed_in_order() -> None:
        with closing(open_registry("order")) as registry:
            found = [registry.register("taps", schema) for schema in (_FIRST, _SECOND)]
            hold(found == [1, 2], f"versions are 1 and 2, not {found}")
            listed = registry.list("taps")
            hold([v.version for v in listed] == [1, 2], "both are listed, the first one first")
            hold({v.source for v in listed} == {"taps"}, "under their source")

    def registering_the_schema_in_force_changes_nothing() -> None:
        with closing(open_registry("again")) as registry:
            found = [registry.register("taps", s) for s in (_FIRST, _FIRST, _SECOND, _SECOND)]
            hold(found == [1, 1, 2, 2], f"it keeps its version: {found}")
            hold(len(registry.list("taps")) == 2, "and is listed once")

    def a_version_is_what_was_registered() -> None:
        with closing(open_registry("kept")) as registry:
            registry.register("taps", _FIRST)
            registry.register("taps", _SECOND)
        with closing(open_registry("kept")) as registry:
            for version, schema in ((1, _FIRST), (2, _SECOND)):
                kept = registry.get("taps", version).schema
                hold(content_of(kept) == content_of(schema), f"version {version} has its fields")
                hold(kept.names() == schema.names(), "in their order")
            hold(registry.register("taps", _SECOND) == 2, "another process finds it in force")

    def sources_are_separate() -> None:
        with closing(open_registry("sources")) as registry:
            registry.register("taps", _FIRST)
            hold(registry.list("gates") == (), "one has versions, the other none")
            hold(registry.register("gates", _SECOND) == 1, "each counts for itself")

    for check in (
        a_new_source_has_no_version, versions_count_from_one_and_are_listed_in_order,
        registering_the_schema_in_force_changes_nothing, a_version_is_what_was_registered,
        sources_are_separate,
    ):  # fmt: skip
        yield check.__name__.replace("_", " "), check
