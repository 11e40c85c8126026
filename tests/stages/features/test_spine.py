"""A spine comes in many forms, and what is wrong with one is said before anything is read."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from homeostat.features.spine import SpineInvalid, spine_of

pd: Any = import_module("pandas")
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
NEEDS = {"card": "string", "shop": "integer", "old": "boolean"}
ROWS: dict[str, list[Any]] = {
    "card": ["007", "b", "b"], "shop": [1, None, 3], "old": [True, None, False], "note": [1, 2, 3],
    "at": [NOON, NOON.replace(hour=13), NOON],
}  # fmt: skip
FRAME = pl.DataFrame(ROWS, schema_overrides={"at": pl.Datetime("us", "UTC")})


def from_pandas() -> Any:
    frame = pd.DataFrame(ROWS)  # whole numbers with a gap are floats there
    assert frame["shop"].dtype == float
    return frame


class Interchanged:
    """A frame that speaks the interchange protocol only."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __dataframe__(self, *given: Any, **named: Any) -> Any:
        return self._frame.__dataframe__(*given, **named)


@pytest.mark.parametrize(
    "given",
    [
        FRAME, FRAME.lazy(), FRAME.to_arrow(), from_pandas(),
        FRAME.with_columns(
            pl.col("card").cast(pl.Categorical),
            pl.col("shop").cast(pl.Int8),
            pl.col("at").cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone("Asia/Tokyo"),
        ),
    ],
)  # fmt: skip
def test_every_kind_of_frame_is_the_same_spine(given: object) -> None:
    assert spine_of(given, NEEDS).select(FRAME.columns).equals(FRAME)


def test_a_frame_of_the_interchange_protocol(tmp_path: Path) -> None:
    table = pa.table({"card": ["a"], "at": pa.array([NOON], pa.timestamp("us", tz="UTC"))})
    assert spine_of(Interchanged(table), {"card": "string"}).row(0) == ("a", NOON)


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "ndjson"])
def test_every_kind_of_file_is_the_same_spine(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"spine.{suffix}"
    text = pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    if suffix == "csv":
        FRAME.with_columns(text).write_csv(path)
    elif suffix == "ndjson":
        FRAME.with_columns(text).write_ndjson(path)
    else:
        (FRAME.write_parquet if suffix == "parquet" else FRAME.write_ipc)(path)
    for given in (path, str(path)):
        found = spine_of(given, NEEDS)
        assert found.select(*NEEDS, "at").equals(FRAME.select(*NEEDS, "at"))
        assert found["note"].cast(pl.Int64).to_list() == [1, 2, 3]


def at(*values: Any, **types: Any) -> pl.DataFrame:
    return pl.DataFrame({"card": ["a"] * len(values), "at": values}, schema_overrides=types)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (FRAME.rename({"card": "crad"}), "no column 'card'. Did you mean 'crad'? Found: crad,"),
        (FRAME.drop("at"), "no column 'at'"),
        (FRAME.clear(), "it has no rows"),
        (at("2024-03-01T12:00:00Z"), "'at' is String; allowed: instants"),
        (
            at(1_700_000_000),
            "Int64; allowed: instants: Datetime with a time zone; say what",
        ),
        (at(NOON.date()), "'at' is Date"),
        (at(NOON.replace(tzinfo=None)), "'at' has instants without a time zone"),
        (at(NOON, None, None), "'at' is empty in 2 rows, the first is row 1"),
        (at(NOON).with_columns(card=1.5), "'card' is Float64; allowed: a string"),
        ({"card": ["a"]}, "a dict; allowed: a path, a Polars frame"),
        ("spine.txt", "file 'spine.txt'; allowed: .parquet"),
        ("nowhere.parquet", "file 'nowhere.parquet': "),
    ],
)
def test_what_is_wrong_is_said(given: object, said: str) -> None:
    with pytest.raises(SpineInvalid) as found:
        spine_of(given, {"card": "string"})
    assert said in str(found.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.5, "row 1: 1.5; allowed: a integer"),
        ("x", "is String; allowed: a integer"),
        (2**63, "row 1: 9223372036854775808"),
    ],
)
def test_a_key_that_nobody_can_have(value: Any, said: str) -> None:
    rows = at(NOON, NOON).with_columns(shop=pl.Series([type(value)(1), value]))
    with pytest.raises(SpineInvalid) as found:
        spine_of(rows, {"shop": "integer"})
    assert said.replace("a integer", "an integer") in str(found.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("x,true,2024-03-01T12:00:00Z", "column 'shop', row 1: 'x'; allowed: an integer"),
        ("2,perhaps,2024-03-01T12:00:00Z", "column 'old', row 1: 'perhaps'; allowed: a boolean"),
        ("2,true,2024-03-01T12:00:00", "column 'at', row 1: '2024-03-01T12:00:00'; allowed: an"),
        ("2,true,noon", "column 'at', row 1: 'noon'; allowed: an instant with its zone"),
        ("2,true,", "column 'at' is empty in 1 rows, the first is row 1"),
    ],
)
def test_a_file_of_texts_is_read_strictly(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "spine.csv"
    path.write_text(f"shop,old,at\n1,true,2024-03-01T12:00:00+02:00\n{row}\n")
    with pytest.raises(SpineInvalid) as found:
        spine_of(path, {"shop": "integer", "old": "boolean"})
    assert said in str(found.value)
