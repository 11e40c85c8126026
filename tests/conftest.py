"""Settings of all tests: Hypothesis is exact about what it repeats, and never about time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from benchmarks.environments import python_of
from hypothesis import HealthCheck, settings

from homeostat.testing.postgres_server import PostgresMissing, postgres_server

settings.register_profile(
    "check",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "soak", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "check"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Return the URL of a PostgreSQL that is started for the tests."""
    try:
        with postgres_server() as url:
            yield url
    except PostgresMissing as missing:
        pytest.skip(str(missing))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs an environment of its own: `make integrations` runs it, `make test` not."""
    for item in items:
        if isinstance(item, pytest.Function) and "environment" in item.fixturenames:
            item.add_marker("integration")


@pytest.fixture(scope="session")
def environment() -> Callable[[str], Path]:
    """Return what gives the interpreter of an environment, made when first asked for."""
    return python_of


@pytest.fixture(scope="session")
def s3(environment: Callable[[str], Path]) -> Iterator[str]:
    """Return the address of a local S3 server that is started for the tests."""
    with subprocess.Popen(
        [str(environment("s3")), str(Path(__file__).parent / "s3_server.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.communicate("")


_buckets = count()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of an empty bucket; the environment says how to reach it."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name = f"bucket-{next(_buckets)}"
    urlopen(Request(f"{s3}/{name}", method="PUT")).close()
    return f"s3://{name}"
