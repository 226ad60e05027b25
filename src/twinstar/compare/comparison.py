"""The result of `twinstar compare`: raw series, the figures made from them, and the table's lines. As JSON and back.

Every figure of the table names the place in the JSON that it was made from (a JSON pointer, RFC 6901). Times are
milliseconds since the begin of the run or window that they belong to, where nothing else is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from twinstar.model.errors import UsageError

SCHEMA = 1
CONTROL = "control"
"""The run without a fault, among the faults of `Contestant.availability`."""

TOPICS = (
    "availability",
    "failed statements",
    "data loss",
    "conflicts",
    "resources",
    "speed",
    "staleness",
    "complexity",
)
"""The table's parts, in their order."""


@dataclass(frozen=True, slots=True)
class Machine:
    cpu: str
    cores: int
    memory_gib: float
    postgresql: str
    commit: str
    """Of Twinstar: the version, and the commit where it is known."""


@dataclass(frozen=True, slots=True)
class Options:
    """How it was measured."""

    quick: bool = False
    rtt_ms: float = 0.0
    """Added to every round trip between two nodes."""
    repeat: int = 1
    seed: int = 0
    """Decides which rows the clients choose."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A statement that was not acknowledged."""

    at_ms: float
    """When the client knew."""
    outcome: str
    """`failed`: it had no effect; `unknown`: nobody told."""
    error: str


@dataclass(frozen=True, slots=True)
class ClientSeries:
    """Everything that one client was told in a run."""

    client: int
    node: str
    """Where its session was when the fault struck."""
    acknowledged_ms: tuple[float, ...]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class FaultRun:
    """One run of the clients, with a fault or (the control) without."""

    outage_ms: float
    """The longest time that one client went without an acknowledgement; of all clients, or, where every node takes
    writes, of those on the struck node."""
    others_outage_ms: float | None
    """Of the clients of other nodes, where every node takes writes."""
    failed: dict[str, int]
    """Statements that were not acknowledged, by error."""
    unknown: int
    """Of these, the ones that may have had an effect."""
    others_failed: int | None
    """Of these, the ones of clients of other nodes, from the fault on."""
    acknowledged: int
    lost: int
    """Acknowledged, and not there afterwards."""
    duplicates: int
    """Rows that are there twice, since a client repeated what had been done."""
    window_ms: tuple[float, float]
    fault_at_ms: float | None
    struck: str
    """The node; empty in a control."""
    served_again: bool
    acks_per_100ms: tuple[int, ...]
    gaps_ms: tuple[float, ...]
    """The longest of each client."""
    clients: tuple[ClientSeries, ...]
    beside: tuple[ClientSeries, ...] = ()
    """Clients on the machine of a node that is cut off and takes writes all the same; in no outage."""
    lost_rows: tuple[tuple[int, int, int], ...] = ()
    """(client, number, attempt)."""
    steps_ms: dict[str, float] = field(default_factory=dict)
    """When the cluster was how far with the change of leader, from the fault on, as it recorded it itself: `sealed`
    (who can confirm for the old one has stopped), `named`, `promoted`, `opened`."""
    reason: str = ""
    evidence: str = ""
    """Why the cluster acted, as it recorded it."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What clients were told had been done, and what is there afterwards."""

    wanted: int
    there: int
    lost: int
    per_client: tuple[int, ...]
    """Acknowledged; `wanted` is the sum."""
    per_row: tuple[int, ...]
    """Found on every node in the end; `there` is the sum."""
    failed: int = 0
    """Statements that an application would have to try again."""


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Clients on all nodes change the same few rows."""

    increments: Tally
    """``SET n = n + 1``."""
    counters: Tally
    """The same, on a column that is declared as a counter where every node takes writes."""
    naive_increments: Tally
    """``SELECT n``, then ``SET n = …`` of what was read and one more."""
    updates: Tally
    """``SELECT t``, then ``SET t = …`` of what was read and one more word."""
    logged: int
    """Versions that lost and are kept in the conflict log."""
    logged_kinds: dict[str, int]
    differing: int
    """Rows that are not the same on all nodes in the end."""
    settled_ms: float
    """From the last acknowledgement until all nodes had the same rows."""
    clients: int
    rows: int
    window_ms: float


@dataclass(frozen=True, slots=True)
class NodeUse:
    """Of one node, while many clients write, spread over what takes writes."""

    node: str
    role: str
    cpu_s: float
    """Of its database, agent and guard."""
    cpu_parts_s: dict[str, float]
    writes: int
    """Acknowledged to clients of this node."""
    wal_bytes: int
    net_bytes: int | None
    """Sent to other nodes for replication; None: could not be read here."""
    rss_mib: float
    """Of its database, agent and guard: the sum of proportional set sizes."""


@dataclass(frozen=True, slots=True)
class Resources:
    per_node: tuple[NodeUse, ...]
    useful_share: float
    """Of the nodes: those that clients' writes were done on."""
    per_write: dict[str, float]
    """`cpu_ms`, `wal_bytes`, `net_bytes`, of all nodes together."""
    window_ms: float
    net_source: str
    """Where `net_bytes` is from."""


@dataclass(frozen=True, slots=True)
class Throughput:
    per_s: float
    p50_ms: float
    p99_ms: float
    latencies_ms: tuple[tuple[float, int], ...]
    """(milliseconds, how many statements took that long), shortest first; rounded to 0.01 ms."""
    throughput_series: tuple[int, ...]
    """Acknowledgements in each 100 ms."""
    window_ms: float
    clients: int
    failed: int
    nodes: dict[str, int]
    """Acknowledged, by the node that did the work."""


@dataclass(frozen=True, slots=True)
class Staleness:
    """From the acknowledgement of a write on one node until another showed it to a reader; 0: it was there before."""

    p50_ms: float
    p99_ms: float
    ages_ms: tuple[float, ...]
    readers: tuple[str, ...]
    """Which node, for each of `ages_ms`."""
    unseen: int
    """Writes that no reader saw in time."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A promise that one server makes and this cluster does not."""

    promise: str
    link: str
    """Into the documentation."""


@dataclass(frozen=True, slots=True)
class Complexity:
    settings: tuple[str, ...]
    """Keys of `twinstar.yaml` that have an effect with this strategy and durability."""
    processes: tuple[str, ...]
    """Of a cluster of three nodes, databases' own children left aside."""
    commands: tuple[str, ...]
    given_up: tuple[GivenUp, ...]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One cluster, and everything that was measured of it. What was left out is None."""

    strategy: str
    durability: str
    cluster: dict[str, str]
    availability: dict[str, tuple[FaultRun, ...]]
    skipped: dict[str, str]
    """Faults that were not measured, and why."""
    conflicts: Conflicts | None
    resources: Resources | None
    speed: dict[str, Throughput]
    """``<read|write>-<one|many>-<one-node|spread>``."""
    staleness: Staleness | None
    complexity: Complexity | None
    took_s: float


@dataclass(frozen=True, slots=True)
class Figure:
    text: str
    source: Annotated[str, Field(alias="from")]
    """A JSON pointer to what it was made from."""


@dataclass(frozen=True, slots=True)
class Line:
    topic: str
    """One of `TOPICS`."""
    line: str
    figures: dict[str, Figure]
    """By contestant."""
    why: str


@dataclass(frozen=True, slots=True)
class Comparison:
    made: str
    """ISO 8601, UTC."""
    machine: Machine
    options: Options
    contestants: dict[str, Contestant]
    lines: tuple[Line, ...]
    schema: int = SCHEMA


_ADAPTER: TypeAdapter[Comparison] = TypeAdapter(Comparison)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, raw series included."""
    dumped: dict[str, Any] = _ADAPTER.dump_python(comparison, mode="json", by_alias=True)
    return dumped


def from_json(raw: Any) -> Comparison:
    """Raises UsageError when this is not what `to_json` makes."""
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as trouble:
        first = trouble.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"This is no result of `twinstar compare --json` ({where}: {first['msg']}): make one with this version."
        ) from None
