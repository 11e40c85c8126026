"""A name that is most likely a misspelling is told from one that means something else."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.ingest.field_names import misspellings, stripped, unfilled
from homeostat.ingest.files import FileInvalid, payloads_of
from homeostat.ingest.rows import ResultInvalid, RowReader
from homeostat.ingest.table_columns import ColumnsInvalid, columns_of


class Sale(hs.Event):
    sale: str
    at: hs.Timestamp
    amount: float | None
    trans_id: str | None


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("Amount", "amount"), ("AMOUNT", "amount"), (" amount", "amount"),
        ("amount\u00a0", "amount"),
        ("\ufeffamount", "amount"), ("a-mount", "amount"), ("amuont", "amount"),
        ("maount", "amount"), ("TransID", "trans_id"), ("trans id", "trans_id"),
        ("trans.id", "trans_id"), ("tarns-id", "trans_id"),
        ("amounts", None), ("amoun", None), ("amonut2", None), ("mount_a", None), ("sale", None),
        ("Sale", None), ("", None), ("unknown", None),
    ],
)  # fmt: skip
def test_a_misspelling(key: str, field: str | None) -> None:
    found = misspellings(Sale.schema, ["sale", "at", key])
    assert found == ({} if field is None else {field: key})


@given(st.text(max_size=12))
def test_a_field_that_is_filled_is_never_misspelled(key: str) -> None:
    assert not misspellings(Sale.schema, ["sale", "at", "amount", "trans_id", key])


@given(st.sampled_from(["amount", "trans_id"]), st.data())
def test_any_case_blank_and_swap_is_found(name: str, data: st.DataObject) -> None:
    blanks = st.text(" \t\u00a0\u2003\ufeff-_", max_size=2)
    letters = list(name)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(name) - 2))
        letters[at : at + 2] = letters[at + 1], letters[at]
    letters = [data.draw(st.sampled_from([c, c.upper()])) for c in letters]
    key = data.draw(blanks) + "".join(letters) + data.draw(blanks)
    assert misspellings(Sale.schema, ["sale", "at", key]) == ({} if key == name else {name: key})


def test_names_without_what_cannot_be_seen() -> None:
    assert stripped("\u200b\u00a0 amount\t\ufeff ") == "amount"
    assert stripped("the amount") == "the amount"


def test_fields_that_nothing_fills_have_a_near_name() -> None:
    assert unfilled(Sale.schema, ["sale", "at", "amt", "zip"]) == {
        "amount": "amt",
        "trans_id": None,
    }


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at")


@pytest.mark.parametrize("other", ["amount", " amount", "amount\u00a0", "\ufeffamount"])
def test_two_columns_of_one_name_refuse_the_table(other: str) -> None:
    names = ["sale", "at", "amount", other]
    with pytest.raises(ColumnsInvalid, match="two columns are named 'amount'"):
        columns_of(Sale.schema, names)
    with pytest.raises(ResultInvalid, match="two columns are named 'amount'"):
        RowReader(SALES, names)
    if other != "amount":
        frame = pl.DataFrame({name: ["x"] for name in names})
        with pytest.raises(FileInvalid, match="two columns are named 'amount'"):
            list(payloads_of(SALES, frame))
    assert columns_of(Sale.schema, ["sale", "at", "zip", "zip"]).places == {"sale": 0, "at": 1}


def test_sqlite_numbers_a_column_that_comes_again() -> None:
    with pytest.raises(ResultInvalid, match="two columns are named 'amount'"):
        RowReader(SALES, ["sale", "at", "amount", "amount:1"])
