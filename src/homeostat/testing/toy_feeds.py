"""The toy fed by a growing file, and by a folder or a database: the process that crash tests kill.

Run it as `python -m homeostat.testing.toy_feeds HOME FOLDER [URL]`. It prints "running" when it
begins to fetch, goes on where an earlier process was killed, and when everything is there and
taken, ends with the digest of the home.
"""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path
from time import sleep

import polars as pl

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.hashing import content_hash
from homeostat.declare.feeds import Feed
from homeostat.testing.digest import digest
from homeostat.testing.seen_entries import remembered
from homeostat.testing.toy import TOY_START, toy_events, toy_system

__all__ = ["complete", "fed_toy", "feed_toy", "payment_lines", "write_verdicts"]

FILES = 24
PAYMENTS, VERDICTS = "payments.ndjson", "verdicts"
_COMPLETE = "complete"
_SECOND = 1_000_000


def payment_lines() -> bytes:
    """Return the toy's payments as JSON lines, a few of them broken."""
    text = toy_events()["payments"].drop("known_at").write_ndjson()
    lines = text.replace("+00:00", "Z").splitlines(keepends=True)
    for place in range(50, len(lines), 200):
        lines[place] = lines[place].replace('"amount":', '"amount":"much, that is ', 1)
        lines[place + 1] = lines[place + 1].replace('"card":', '"cord":', 1)
    return "".join(lines).encode()


def write_verdicts(folder: Path) -> None:
    """Write the toy's verdicts into a folder of many files, of every kind."""
    folder.mkdir(parents=True)
    frame = toy_events()["verdicts"].drop("known_at")
    text = frame.with_columns(pl.col("judged_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ"))
    rows = -(-frame.height // FILES)
    for number in range(FILES):
        part, lines = frame.slice(number * rows, rows), text.slice(number * rows, rows)
        name = folder / f"{number:03}"
        if number % 4 == 0:
            lines.write_csv(name.with_suffix(".csv"))
        elif number % 4 == 1:
            part.write_parquet(name.with_suffix(".parquet"))
        elif number % 4 == 2:
            name.with_suffix(".ndjson.gz").write_bytes(gzip.compress(lines.write_ndjson().encode()))
        else:
            part.write_ipc(name.with_suffix(".arrow"))


def complete(folder: Path) -> None:
    """Say that nothing more comes into a folder."""
    (folder / _COMPLETE).touch()


def fed_toy(folder: Path, url: str | None = None) -> hs.System:
    """Return the toy with feeds: payments from a file, verdicts from a folder or a database."""
    system = toy_system()
    verdicts: Feed = hs.Folder(str(folder / VERDICTS), "*", history=True)
    if url is not None:
        verdicts = hs.Query(
            url=url, table=VERDICTS, cursor="judged_at", every="1h", batch=50, timezone="UTC",
            history=True,
        )  # fmt: skip
    feeds: dict[str, Feed] = {
        "payments": hs.Folder(str(folder), PAYMENTS, every="1s", quiet="52w", history=True),
        "verdicts": verdicts,
    }
    return replace(system, sources=tuple(replace(s, feed=feeds[s.name]) for s in system.sources))


def feed_toy(home: Path, folder: Path, url: str | None = None) -> dict[str, str]:
    """Fetch until everything is there and taken, from wherever the home stands."""
    system = fed_toy(folder, url)
    clock = ManualClock(to_micros(TOY_START) + (12 * 24 + 6) * 3_600 * _SECOND)
    with hs.open(system, home, clock) as app:
        while True:
            last = (folder / _COMPLETE).exists()
            clock.advance_to(clock.now() + 5 * _SECOND)
            if not sum(app.pull(s.name, due=True).records for s in system.sources):
                if last:
                    break
                sleep(0.001)
        app.live.flush()
        found = digest(app.home)
        # When a record sheds rows that no window reaches depends on the cuts; its values do not.
        del found["online"]
        return found | _read(app)


def _read(app: hs.App) -> dict[str, str]:
    """Return the digests of all live features, and of the ids that are remembered."""
    entities = {"cards": ("card", "payments"), "merchants": ("merchant", "verdicts")}
    found = {}
    for view, (key, source) in entities.items():
        names = app.home.lake.read(source, [key])[key].unique().sort().to_list()
        values = app.read(view, {key: names}).rows()
        found[f"features/{view}"] = content_hash([list(map(repr, row)) for row in values])
    with app.home.store.writer() as writer:
        ids = [remembered(writer, source.name) for source in app.system.sources]
    return found | {"ids": content_hash(ids)}


def main(home: str, folder: str, url: str | None = None) -> None:
    """Say that the work begins, do it, and write the digest as JSON."""
    sys.stdout.write("running\n")
    sys.stdout.flush()
    sys.stdout.write(json.dumps(feed_toy(Path(home), Path(folder), url)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
