"""Features are built for a table of keys and instants, as a person asks for them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.core.clock import from_micros, to_micros
from homeostat.features.spine import SpineInvalid
from homeostat.lake.events import Span
from homeostat.runtime.app import App
from homeostat.runtime.app import open as open_app
from homeostat.runtime.building import Builder
from homeostat.runtime.loading import load_system
from homeostat.runtime.reading import Reading
from homeostat.testing.oracle import feature_values
from homeostat.testing.toy_home import Commands

pd: Any = import_module("pandas")
BEGIN = datetime(2024, 3, 6, tzinfo=UTC)


def spine() -> pl.DataFrame:
    """Return rows in no order, many of them twice, one without a key and one of nobody."""
    draw = np.random.default_rng(3)
    cards = [f"card-{n}" for n in draw.integers(0, 40, 60)]
    hours = [BEGIN + timedelta(hours=int(n)) for n in draw.integers(0, 72, 60)]
    return pl.DataFrame(
        {
            "row": range(122),
            "card": [*cards, *reversed(cards), None, "nobody"],
            "merchant": (["kiosk", "casino", "ジム"] * 41)[:122],
            "amount": [float(n) for n in range(122)],
            "at": [*hours, *reversed(hours), BEGIN, BEGIN],
        }
    )


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    path = tmp_path / "spine.parquet"
    spine().write_parquet(path)
    return path


def expected(commands: Commands, view: str) -> list[list[float]]:
    """Return what the formula says, from the events as SQL tells them."""
    declared = load_system(commands.folder / "system.py").view(view)
    lake = pl.concat(
        [pl.read_parquet(f, hive_partitioning=False) for f in
         (commands.folder / "state" / "lake" / declared.source.name).glob("*/*.parquet")]
    )  # fmt: skip
    events = lake.sort("_offset").to_dicts()
    keys = declared.entity.keys
    return [
        feature_values(declared, events, tuple(row[k] for k in keys), to_micros(row["at"]))
        for row in spine().to_dicts()
    ]


@pytest.mark.parametrize("words", [(), ("--memory-mb", "1")])
def test_one_row_per_row_in_order_is_what_the_formula_says(
    lived: Commands, asked: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    out = tmp_path / "out.parquet"
    command = ("features", "build", "cards", "merchants", "--spine", asked, "--out", out)
    body = lived(*command, *words, "--json").json
    found = pl.read_parquet(out)
    assert (body["rows"], body["columns"], body["future"]) == (122, found.columns, 0)
    assert found.select(spine().columns).equals(spine())
    for view in ("cards", "merchants"):
        names = [name for name in found.columns if name.startswith(f"{view}__")]
        values = found.select(names).to_numpy()
        assert np.array_equal(values, np.array(expected(lived, view)), equal_nan=True)
        assert np.isfinite(values).any()


def test_a_model_is_built_with_its_on_demand_features(
    lived: Commands, asked: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.arrow"
    assert (
        lived("features", "build", "--model", "fraud", "--spine", asked, "--out", out).status == 0
    )
    found = pl.read_ipc(out)
    assert found.columns[-3:] == ["times_usual", "amount", "merchant"]
    usual = found["amount"].to_numpy() / found["cards__amount_mean_1d"].to_numpy()
    assert np.array_equal(found["times_usual"].to_numpy(), usual, equal_nan=True)
    assert found["amount"].to_list() == spine()["amount"].to_list()


def test_without_a_spine_a_model_has_its_own_requests(lived: Commands, tmp_path: Path) -> None:
    out, labelled = tmp_path / "out.parquet", tmp_path / "labelled.parquet"
    lived("features", "build", "--model", "fraud", "--out", out)
    lived("features", "training-set", "fraud", "--out", labelled)
    every, learned = pl.read_parquet(out), pl.read_parquet(labelled)
    assert every.height == lived("sql", "select count(*) as n from payments", "--json").json[0]["n"]
    names = [name for name in learned.columns if name not in ("at", "label")]
    same = every.filter(pl.col("payment_id").is_in(learned["payment_id"].implode()))
    assert same.select(names).equals(learned.select(names))
    assert "times_usual" in names


def test_the_plan_is_what_is_read(own: Commands, asked: Path, tmp_path: Path) -> None:
    command = ("features", "build", "cards", "--spine", asked)
    plan = own(*command, "--explain", "--json").json
    [view] = plan["views"]
    assert (plan["rows"], view["entities"], view["keyless"]) == (
        122, spine()["card"].drop_nulls().n_unique(), 1
    )  # fmt: skip
    assert view["why"].startswith("1d before the first row, for count_1d")
    assert view["begin"] == (min(spine()["at"]) - timedelta(days=1)).isoformat()
    table = own.folder / "state" / "lake" / "payments"
    files = {path: pl.read_parquet(path) for path in table.glob("*/*.parquet")}
    begin, end = (datetime.fromisoformat(view[bound]) for bound in ("begin", "end"))
    needed = {
        path: rows
        for path, rows in files.items()
        if rows.filter(pl.col("_known_time").is_between(begin, end, closed="left")).height
    }
    assert (view["files"], view["files_of"]) == (len(needed), len(files))
    assert len(needed) < len(files)
    assert view["events"] == sum(rows.height for rows in needed.values())
    for path in files.keys() - needed.keys():
        path.unlink()
    out = tmp_path / "out.parquet"
    assert own(*command, "--out", out).status == 0
    values = pl.read_parquet(out).select(pl.col("^cards__.*$")).to_numpy()
    assert np.array_equal(values, np.array(expected(own, "cards")), equal_nan=True)
    next(iter(needed)).unlink()
    assert own(*command, "--out", out).status == 1


def test_the_plan_is_told_and_nothing_is_written(
    lived: Commands, asked: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    words = ("--spine", asked, "--out", out, "--explain")
    told = lived("features", "build", "cards", *words).out
    assert "because    1d before the first row, for count_1d, up to the last" in told
    assert "files of payments" in told
    assert "_event_time, _known_time, _too_late, amount, card: " in told
    assert not out.exists()


def test_rows_of_the_future_are_told(lived: Commands, tmp_path: Path) -> None:
    path = tmp_path / "spine.csv"
    path.write_text("card,at\ncard-1,2024-03-07T00:00:00Z\ncard-1,2124-03-07T00:00:00Z\n")
    found = lived("features", "build", "cards", "--spine", path, "--out", tmp_path / "out.csv")
    assert (found.status, "1 row is in the future" in found.err) == (0, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cards",), "Missing option '--spine'"),
        (("cards", "--spine", "SPINE"), "Missing option '--out'"),
        (("cards", "--model", "fraud"), "Name views, or a model"),
        ((), "Name views, or a model"),
        (("cards", "--spine", "SPINE", "--out", "x.xls"), "write a .parquet"),
        (("crads", "--spine", "SPINE", "--out", "x.csv"), "Did you mean 'cards'?"),
    ],
)
def test_what_cannot_be_built_is_said(
    lived: Commands, asked: Path, words: tuple[str, ...], said: str
) -> None:
    given = [str(asked) if word == "SPINE" else word for word in words]
    found = lived("features", "build", *given)
    assert found.status in (1, 2)
    assert said in found.err


@pytest.fixture
def app(own: Commands) -> Any:
    with open_app(load_system(own.folder / "system.py"), own.folder / "state") as found:
        yield found


FORMS: dict[str, Callable[[pl.DataFrame], Any]] = {
    "arrow": pl.DataFrame.to_arrow,
    "pandas": lambda rows: pd.DataFrame(rows.to_dict(as_series=False)),
}


def test_the_same_from_python(app: App, asked: Path) -> None:
    found = app.features(["cards", "merchants"], spine())
    assert found.equals(app.features(["cards", "merchants"], asked))
    for form in FORMS.values():
        assert found.equals(app.features(["cards", "merchants"], form(spine())))
    model = app.model_features("fraud", spine())
    assert model["times_usual"].is_finite().any()
    assert app.model_features("fraud").height == app.sql("select * from payments").height
    with pytest.raises(SpineInvalid, match="column 'cards__count_1h' is there already"):
        app.features(["cards"], found)


def test_events_that_wait_for_the_lake_are_seen(app: App) -> None:
    begin = app.clock.now()
    payment = {"card": "card-1", "merchant": "kiosk", "amount": 7.0, "asked_at": from_micros(begin)}
    app.ingest("payments", [{"payment_id": f"late-{n}", **payment} for n in range(3)])
    reading = Reading(app.system, app.home)
    rows = pl.DataFrame({"card": ["card-1"], "at": [from_micros(app.clock.now() + 1)]})
    plan = Builder(app.system, reading.table).plan(["cards"], rows, app.home.lake)
    assert plan.views[0].waiting == 3
    found = Builder(app.system, reading.table).views(["cards"], rows)
    assert found["cards__count_1h"].item() >= 3
    flushed = app.features(["cards"], rows)
    assert flushed.equals(found)
    assert Reading(app.system, app.home).table("payments", Span()).tail is None
    # What a reading began with and what the lake holds by now are not counted twice.
    assert Builder(app.system, reading.table).views(["cards"], rows).equals(found)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_a_lake_larger_than_the_memory_that_is_given(tmp_path: Path) -> None:
    """Two million events take little memory where they must, and every value stays the same."""
    run_large("fill", tmp_path)
    whole, bounded = run_large("whole", tmp_path), run_large("bounded", tmp_path)
    assert whole["values"] == bounded["values"]
    assert whole["peak"] > 2 * OWN, "the measure sees what it should"
    assert bounded["peak"] < whole["peak"] / 2
    assert bounded["peak"] < bounded["planned"] + OWN


OWN = 200_000_000
"""What Polars, pyarrow and the threads take for themselves, in bytes."""


def run_large(part: str, folder: Path) -> Any:
    words = [sys.executable, str(Path(__file__).with_name("large_lake.py")), part, str(folder)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout or "null")
