"""Commands on the schemas of events: their versions, for others to read, and in a registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homeostat.core.errors import HomeostatError
from homeostat.runtime.cli_shared import FOUND, Group, Session, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from homeostat.adapters.confluent_registry import ConfluentClient
    from homeostat.declare.schema import EventSchema, Field
    from homeostat.declare.sources import EventSource
    from homeostat.declare.system import System
    from homeostat.ingest.schema_versions import SchemaVersion

__all__ = ["schemas"]

FORMATS = ("avro", "json-schema")


class NoRegistry(HomeostatError):
    """Nobody said where the registry is."""

    def __init__(self, profile: Path) -> None:
        super().__init__(
            f"schema registry: {profile} names none; allowed: a Confluent-compatible registry; "
            "name it with --registry URL, or as `registry` in the section [kafka]"
        )


@click.group("schemas", cls=Group, short_help="The schemas of events, for others to read.")
def schemas() -> None:
    """List, show, export or publish the schemas of events.

    `homeostat apply` puts a declared schema in force, as a version of its own, if those who read
    and write its events can follow.
    """


@schemas.command("list", short_help="Versions of each source, and what is in force.")
def list_schemas() -> None:
    """List the sources: how many versions each has, and whether the declared one is in force."""
    here = session()
    system, kept = _versions(here)
    rows = [_listed(source, kept[source.name]) for source in system.sources]

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        table(to, rows)

    here.answer(rows, show)


def _versions(here: Session) -> tuple[System, dict[str, tuple[SchemaVersion, ...]]]:
    """Return the system, and by source the versions that its home has; none without a home."""
    if not (here.folder / "meta.db").exists():
        system = here.system()
        return system, {source.name: () for source in system.sources}
    with here.home() as (system, home):
        return system, {source.name: home.schemas.list(source.name) for source in system.sources}


def _listed(source: EventSource, versions: Sequence[SchemaVersion]) -> dict[str, Any]:
    from homeostat.ingest.schema_evolution import evolution

    step = evolution(source, versions)
    declared = "refused" if step.conflicts else "to be applied" if step.is_change else "in force"
    return {
        "source": source.name, "versions": len(versions), "compatibility": source.compatibility,
        "fields": len(source.schema.fields), "declared": declared,
    }  # fmt: skip


@schemas.command("show", short_help="The fields, and what each version changed.")
@click.argument("source")
@click.option("--version", type=int, help="This version; by default the declared schema.")
def show_schema(source: str, version: int | None) -> None:
    """Show the fields of a schema, and what each version of it changed."""
    from homeostat.ingest.schema_evolution import history

    here = session()
    system, kept = _versions(here)
    versions = kept[system.source(source).name]
    schema = _asked(system.source(source), versions, version)
    rows, changes = [_field(field) for field in schema.fields], history(versions)

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        table(to, rows)
        if changes:
            to.print()
        for number, lines in changes.items():
            to.print(f"version {number}: {'; '.join(lines)}", style="dim")

    here.answer({"source": source, "fields": rows, "versions": changes}, show)


def _asked(
    source: EventSource, versions: Sequence[SchemaVersion], version: int | None
) -> EventSchema:
    """Return the declared schema, or the version that was asked for."""
    from homeostat.ingest.schema_versions import UnknownSchemaVersion

    if version is None:
        return source.schema
    for found in versions:
        if found.version == version:
            return found.schema
    raise UnknownSchemaVersion(source.name, version, [found.version for found in versions])


def _field(field: Field) -> dict[str, Any]:
    return {
        "field": field.name, "kind": field.kind, "optional": field.nullable,
        "default": field.default, "aliases": ", ".join(field.aliases),
        "tags": ", ".join(sorted(field.tags)),
    }  # fmt: skip


@schemas.command("export", short_help="As Avro or JSON Schema.")
@click.argument("source")
@click.option("--format", "form", type=click.Choice(FORMATS), default="avro", show_default=True,
              help="In which language.")  # fmt: skip
@click.option("--version", type=int, help="This version; by default the declared schema.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
def export_schema(source: str, form: str, version: int | None, out: Path | None) -> None:
    """Print a schema as Avro or JSON Schema (2020-12), or write it to a file.

    JSON Schema says what a payload may be; Avro, how others write and read the events.
    """
    from homeostat.ingest.schema_export import to_avro, to_json_schema

    here = session()
    system, kept = _versions(here)
    declared = system.source(source)
    schema = _asked(declared, kept[source], version)
    said = (to_avro if form == "avro" else to_json_schema)(schema, source)
    text = json.dumps(said, ensure_ascii=False, indent=None if here.json else 2)
    if out is None:
        click.echo(text)
        return
    out.write_text(text + "\n", encoding="utf-8")
    here.note(f"{source!r} as {form}: {out}")


@schemas.command("publish", short_help="Register in a schema registry.")
@click.argument("sources", nargs=-1)
@click.option("--registry", metavar="URL", help="The registry; by default the profile's.")
@click.option("--dry-run", is_flag=True, help="Only ask whether the registry would accept them.")
def publish_schemas(sources: tuple[str, ...], registry: str | None, dry_run: bool) -> None:
    """Register the declared schemas of SOURCES, or of all, in a Confluent-compatible registry.

    Each is registered in Avro for the values of its topic (the subject TOPIC-value), and judged
    by the compatibility that the registry has for it. Registering again changes nothing. Exit
    status with --dry-run: 3 if one would be refused.
    """
    here = session()
    system = here.system()
    chosen = [system.source(name) for name in sources] or list(system.sources)
    client, subjects = _registry(here, system, registry)
    rows = [_publish(client, source, subjects[source.name], dry=dry_run) for source in chosen]

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        table(to, rows, wide=("refused",))

    here.answer(rows, show)
    if any(row["refused"] for row in rows):
        click.get_current_context().exit(FOUND)


def _registry(
    here: Session, system: System, url: str | None
) -> tuple[ConfluentClient, dict[str, str]]:
    """Return the registry, and by source the subject of its events."""
    from homeostat.adapters.confluent_registry import ConfluentClient
    from homeostat.runtime.profile import FILE, load_profile

    kafka = load_profile(here.path, system).kafka
    address = url or (None if kafka is None else kafka.registry)
    if address is None:
        raise NoRegistry(here.path.parent / FILE)
    topics = {source.name: source.name for source in system.sources}
    topics |= {} if kafka is None else {topic.source: topic.topic for topic in kafka.topics}
    return ConfluentClient(address), {name: f"{topic}-value" for name, topic in topics.items()}


def _publish(
    client: ConfluentClient, source: EventSource, subject: str, *, dry: bool
) -> dict[str, Any]:
    from homeostat.adapters.confluent_registry import ConfluentSchemas
    from homeostat.ingest.schema_export import to_avro

    version: int | None = None
    refused: Sequence[str] = ()
    if dry:
        text = json.dumps(to_avro(source.schema, source.name))
        refused = client.incompatibilities(subject, text)
    else:
        version = ConfluentSchemas(client, lambda _: subject).register(source.name, source.schema)
    return {
        "source": source.name, "subject": subject, "compatibility": client.mode(subject),
        "version": version, "refused": "; ".join(refused),
    }  # fmt: skip
