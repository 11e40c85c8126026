"""A Kafka cluster for tests: librdkafka's own mock, whose brokers can be taken down, or a real one.

The mock speaks Kafka's protocol to every client of any process. It has no transactions, and forgets
the oldest records of a partition above about 5 MB.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from homeostat.core.errors import HomeostatError, MissingExtra

__all__ = ["VARIABLE", "Cluster", "MockCluster", "Record", "kafka_cluster"]

VARIABLE = "HOMEOSTAT_KAFKA"
"""The environment variable that names a real cluster's brokers, instead of the mock."""

PATIENCE_S = 30.0

_ERRORS = ctypes.create_string_buffer(512)


@dataclass(frozen=True, slots=True)
class Record:
    """What a producer sends; `value` None is a tombstone."""

    value: bytes | None
    partition: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Cluster(Protocol):
    """A cluster with topics of its own for each test."""

    brokers: str
    can_fail: bool

    def topic(self, partitions: int) -> str:
        """Make a topic and return its name."""
        ...

    def send(self, topic: str, records: Iterable[Record]) -> None:
        """Send records and wait until the brokers have them."""
        ...

    def down(self) -> None:
        """Stop all brokers; only if `can_fail`."""
        ...

    def up(self) -> None:
        """Start them again, with what they had."""
        ...

    def close(self) -> None:
        """Let go of the cluster."""
        ...


class _Sending:
    """Sends by one producer."""

    def __init__(self, brokers: str) -> None:
        from confluent_kafka import Producer

        self.brokers = brokers
        self._producer = Producer({"bootstrap.servers": brokers, "log_level": 2, "linger.ms": 1})

    def send(self, topic: str, records: Iterable[Record]) -> None:
        """Send records and wait until the brokers have them."""
        failed: list[str] = []

        def arrived(error: Any, message: Any) -> None:
            if error is not None:
                failed.append(error.str())

        for number, record in enumerate(records):
            self._producer.produce(
                topic, record.value, record.key, record.partition, arrived,
                headers=list(record.headers),
            )  # fmt: skip
            if number % 1000 == 999:
                self._producer.poll(0)
        left = self._producer.flush(PATIENCE_S)
        if left or failed:
            raise HomeostatError(f"{left} records were not sent: {failed[:1]}; send them again")


class MockCluster(_Sending):
    """librdkafka's mock cluster in this process, `nodes` brokers on free ports.

    >>> with MockCluster() as cluster:
    ...     cluster.send(cluster.topic(partitions=2), [Record(b"{}", partition=1)])
    """

    can_fail = True

    def __init__(self, nodes: int = 2) -> None:
        self._library = library = _library()
        self._nodes, self._numbers = nodes, count(1)
        owner = library.rd_kafka_new(0, _configuration(library), _ERRORS, len(_ERRORS))
        self._owner = ctypes.c_void_p(owner)
        self._cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(self._owner, nodes))
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        super().__init__(library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def __enter__(self) -> MockCluster:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def topic(self, partitions: int) -> str:
        """Make a topic and return its name."""
        name = f"topic-{next(self._numbers)}"
        self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        return name

    def down(self) -> None:
        """Stop all brokers."""
        for node in range(1, self._nodes + 1):
            self._library.rd_kafka_mock_broker_set_down(self._cluster, node)

    def up(self) -> None:
        """Start them again, with what they had."""
        for node in range(1, self._nodes + 1):
            self._library.rd_kafka_mock_broker_set_up(self._cluster, node)

    def close(self) -> None:
        """End the cluster; its records are gone."""
        self._producer.purge()
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._owner)


class RealCluster(_Sending):
    """A cluster that is there already; its topics are new ones, and stay."""

    can_fail = False
    _numbers = count(1)

    def topic(self, partitions: int) -> str:
        """Make a topic and return its name."""
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        name = f"homeostat-test-{os.getpid()}-{next(self._numbers)}"
        admin = AdminClient({"bootstrap.servers": self.brokers})
        made = admin.create_topics([NewTopic(name, partitions, 1)])
        made[name].result(timeout=PATIENCE_S)
        return name

    def down(self) -> None:
        """A real cluster is not ours to stop."""
        raise HomeostatError("a real cluster is not stopped; allowed: can_fail; skip this test")

    def up(self) -> None:
        """It never went down."""

    def close(self) -> None:
        """Leave it as it is."""


@contextmanager
def kafka_cluster() -> Iterator[Cluster]:
    """Yield the cluster that `HOMEOSTAT_KAFKA` names, or else a mock of two brokers."""
    brokers = os.environ.get(VARIABLE)
    cluster: Cluster = RealCluster(brokers) if brokers else MockCluster()
    try:
        yield cluster
    finally:
        cluster.close()


def _library() -> Any:
    """Return the librdkafka that the client brings: its mock is in its interface for C only."""
    try:
        import confluent_kafka
    except ModuleNotFoundError as missing:
        raise MissingExtra("the mock of a Kafka cluster", "kafka") from missing
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    found = sorted(folder.glob("librdkafka*"))
    if not found:
        raise HomeostatError(
            f"{folder}: no librdkafka; allowed: the wheel of confluent-kafka, which brings it; "
            f"install that, or name a real cluster in {VARIABLE}"
        )
    library = ctypes.CDLL(str(found[0]))
    handle, number = ctypes.c_void_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", handle, []),
        ("rd_kafka_conf_set", number, [handle, ctypes.c_char_p, ctypes.c_char_p, handle, number]),
        ("rd_kafka_new", handle, [number, handle, handle, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [handle]),
        ("rd_kafka_mock_cluster_new", handle, [handle, number]),
        ("rd_kafka_mock_cluster_destroy", None, [handle]),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, [handle]),
        ("rd_kafka_mock_topic_create", number, [handle, ctypes.c_char_p, number, number]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [handle, number]),
        ("rd_kafka_mock_broker_set_down", number, [handle, number]),
        ("rd_kafka_mock_broker_set_up", number, [handle, number]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _configuration(library: Any) -> ctypes.c_void_p:
    found = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(found, b"log_level", b"2", _ERRORS, len(_ERRORS))
    return found
