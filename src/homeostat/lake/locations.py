"""Where tables are: a folder, or a place in an object store, both through the same code.

Credentials, endpoint and region of an object store are read from the environment, by the names that
delta-rs and Polars know: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
AWS_ENDPOINT_URL, AWS_ALLOW_HTTP.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from homeostat.core.errors import HomeostatError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = [
    "LakeFolderInvalid",
    "LakeSchemeUnknown",
    "Location",
    "bucket",
    "dataset",
    "filesystem",
    "footers",
    "is_remote",
    "sizes",
]

_SCHEMES = ("s3://",)
_UNREADABLE = frozenset("%*?[]^|\t" + ("\\" if os.sep == "/" else ""))
"""What one of delta-rs, Polars and DuckDB takes for something else in a path."""


class LakeFolderInvalid(HomeostatError, ValueError):
    """A place whose path the engines cannot open."""

    def __init__(self, place: str, odd: Sequence[str]) -> None:
        super().__init__(
            f"lake folder {place!r} has {' '.join(map(repr, odd))} in its path; "
            f"allowed: paths without {' '.join(map(repr, sorted(_UNREADABLE)))}; choose another "
            "folder"
        )


class LakeSchemeUnknown(HomeostatError, ValueError):
    """An address of a kind that no engine was tested with."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"lake location {place!r}: unknown kind of address; allowed: a folder, or "
            f"{' '.join(scheme + 'BUCKET/PREFIX' for scheme in _SCHEMES)}; correct it"
        )


@dataclass(frozen=True, slots=True)
class Location:
    """A folder (an absolute path) or an address, without a slash at its end.

    >>> Location.of("s3://bucket/lake/").table("taps"), Location.of("s3://bucket").is_remote
    ('s3://bucket/lake/taps', True)
    """

    url: str

    @classmethod
    def of(cls, where: Path | str) -> Location:
        """Return the location that a path or an address names; raise if no engine can open it."""
        text = str(where)
        if not text.startswith(_SCHEMES):
            if "://" in text:
                raise LakeSchemeUnknown(text)
            text = str(Path(where).absolute())
        odd = sorted(_UNREADABLE & set(text))
        if odd:
            raise LakeFolderInvalid(text, odd)
        return cls(text if text == "/" else text.rstrip("/"))

    @property
    def is_remote(self) -> bool:
        """Whether it is in an object store."""
        return is_remote(self.url)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]

    def prepare(self) -> None:
        """Make the folder; an object store has none."""
        if not self.is_remote:
            Path(self.url).mkdir(parents=True, exist_ok=True)

    def table(self, name: str) -> str:
        """Return the address of a table."""
        return f"{self.url}/{name}"

    def has_table(self, name: str) -> bool:
        """Whether a table was begun."""
        from deltalake import DeltaTable

        if self.is_remote:
            return DeltaTable.is_deltatable(self.table(name))
        return Path(self.url, name, "_delta_log").is_dir()

    def tables(self) -> set[str]:
        """Return the names of the tables that were begun."""
        if not self.is_remote:
            return {path.parent.name for path in Path(self.url).glob("*/_delta_log")}
        from pyarrow.fs import FileSelector, FileType

        found = filesystem(self.url).get_file_info(FileSelector("", allow_not_found=True))
        names = (info.base_name for info in found if info.type == FileType.Directory)
        return {name for name in names if self.has_table(name)}

    def remove(self, files: Sequence[str]) -> int:
        """Remove files, named from here, if they are there; return how many bytes they had."""
        if not files:
            return 0
        if self.is_remote:
            from pyarrow.fs import FileType

            store, freed = filesystem(self.url), 0
            for info in store.get_file_info(list(files)):
                if info.type == FileType.File:
                    store.delete_file(info.path)
                    freed += info.size
            return freed
        freed = 0
        for file in files:
            path = Path(self.url, file)
            if path.exists():
                freed += path.stat().st_size
                path.unlink()
        return freed


def is_remote(address: str) -> bool:
    """Whether an address is in an object store."""
    return address.startswith(_SCHEMES)


def filesystem(url: str) -> FileSystem:
    """Return the object store from an address on, as delta-rs opens it."""
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import PyFileSystem

    return PyFileSystem(DeltaStorageHandler(url))


def footers(files: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield every file with the metadata of its footer; the files are of one table."""
    import pyarrow.parquet as parquet

    root = bucket(files[0]) if files and is_remote(files[0]) else ""
    store = filesystem(root) if root else None
    for file in files:
        yield file, parquet.read_metadata(_inside(file, root), filesystem=store)


def dataset(files: Sequence[str], schema: Mapping[str, pl.DataType]) -> Any:
    """Return files of an object store, all of one table, as a pyarrow dataset.

    Args:
        files: one or more.
        schema: the columns of the table; `_day` is added from the names of the folders.
    """
    import pyarrow as pa
    import pyarrow.dataset as datasets

    root = bucket(files[0])
    columns = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    days = pa.schema([pa.field("_day", pa.date32())])
    return datasets.dataset(
        [_inside(file, root) for file in files],
        schema=pa.schema([*columns, *days]),
        format="parquet",
        filesystem=filesystem(root),
        partitioning=datasets.partitioning(days, flavor="hive"),
    )


def _inside(file: str, root: str) -> str:
    return file.removeprefix(root + "/") if root else file


def bucket(url: str) -> str:
    """Return the part of an address that names its store.

    >>> bucket("s3://archive/lake/taps")
    's3://archive'
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def sizes(table: str) -> dict[str, int]:
    """Return the bytes of every Parquet file in a table's folder, of any version, by address."""
    if not is_remote(table):
        return {str(path): path.stat().st_size for path in Path(table).glob("*/*.parquet")}
    from pyarrow.fs import FileSelector

    found = filesystem(table).get_file_info(FileSelector("", allow_not_found=True, recursive=True))
    return {
        f"{table}/{info.path}": info.size for info in found if info.path.endswith(".parquet")
        and not info.path.startswith("_delta_log/")
    }  # fmt: skip
