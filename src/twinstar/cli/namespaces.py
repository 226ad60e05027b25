"""Network namespaces of this machine as if they were machines: an address each on one bridge, and cuts between any two.

Nothing of it is in the machine's own network: the bridge has a namespace of its own, so no address can clash with
anybody's, and no traffic leaves. All names carry a random token, and everything goes with the context.

A cut is silence. The sender is told a hardware address that nobody has for the one who shall not hear it (a permanent
neighbour entry, as every pair here has one), so its packets leave and arrive nowhere: no error, no reset, as with a
broken switch. That is one direction; a whole cut is both. It needs `iproute2` alone.

The hosts' boot clocks are days apart, where the kernel has time namespaces: no two machines have the same, and nobody
may compare its own with another's. (They begin so; no namespace can make a running process's clock jump, and the
wall clock is the machine's own.)

With regions (`Far`) there is no bridge, but a process that hands frames over late (`delaying`).

What it does not show: loss of single packets, and a link whose carrier goes.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from twinstar.cli.delaying import Host, Job
from twinstar.cli.entering import move_to, set_namespace
from twinstar.model.errors import EnvironmentTrouble

Pair = tuple[str, str]
"""(sender, receiver)."""

_FOLDER = Path("/run/netns")
_NOBODY = "02:00:00:00:ff:ff"
_SWITCH = "switch"
_CLOCKS_APART_S = 86_400


@dataclass(frozen=True, slots=True)
class Far:
    """Regions with `rtt_ms` between any two of them, by host; who is not named is in the first one."""

    rtt_ms: float
    regions: Mapping[str, str]

    def region_of(self, host: str) -> str:
        return self.regions.get(host) or next(iter(self.regions.values()))


@dataclass(frozen=True, slots=True)
class Network:
    """Hosts that reach each other by `address`. Made by `network`, written down by `write` for other processes."""

    token: str
    hosts: tuple[str, ...]
    clocks: bool
    """Whether each has a boot clock of its own."""

    @classmethod
    def read(cls, file: Path) -> Network | None:
        """What was written down, None when there is no such file."""
        try:
            raw = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        return cls(raw["token"], tuple(raw["hosts"]), raw["clocks"])

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self)))

    def address(self, host: str) -> str:
        return f"10.0.0.{self.hosts.index(host) + 1}"

    def enter(self, host: str) -> tuple[str, ...]:
        """What stands before a command so that it runs at this host, under the same pid."""
        ahead_s = (self.hosts.index(host) + 1) * _CLOCKS_APART_S
        return (*self.beside(host), *(_with_clock(ahead_s) if self.clocks else ()))

    def beside(self, host: str) -> tuple[str, ...]:
        """What stands before a command so that it runs at this host, with the machine's own clock."""
        return ("nsenter", f"--net={self._path(host)}")

    @contextlib.contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """What this thread connects to or starts meanwhile is connected to or started at this host."""
        with open("/proc/thread-self/ns/net", "rb") as before:
            try:
                move_to(self._path(host))
            except OSError as trouble:
                raise _refused(str(trouble.strerror)) from None
            try:
                yield
            finally:
                set_namespace(before.fileno())

    # -- cuts ----------------------------------------------------------------------------------------------------------

    def cut(self, pairs: Iterable[Pair]) -> None:
        """From now on the senders' packets do not reach the receivers."""
        self._point((sender, receiver, _NOBODY) for sender, receiver in pairs)

    def join(self, pairs: Iterable[Pair] | None = None) -> None:
        """Undoes cuts: these, or all."""
        every = [(a, b) for a in self.hosts for b in self.hosts if a != b]
        self._point((sender, receiver, self._hardware(receiver)) for sender, receiver in pairs or every)

    def between(self, some: Iterable[str], others: Iterable[str]) -> list[Pair]:
        """Every way between the two groups, both directions."""
        there = [(a, b) for a in some for b in others if a != b]
        return there + [(b, a) for a, b in there]

    def apart(self, host: str) -> list[Pair]:
        """Every way from and to this host."""
        return self.between([host], self.hosts)

    def _point(self, entries: Iterable[tuple[str, str, str]]) -> None:
        """All senders' at about the same time."""
        orders: dict[str, list[str]] = {}
        for sender, receiver, hardware in entries:
            order = f"neigh replace {self.address(receiver)} lladdr {hardware} dev eth0 nud permanent"
            orders.setdefault(sender, []).append(order)
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(_ip(self._name(sender), lines)) for sender, lines in orders.items()]
            for program in running:
                _finish(program)

    # -- making --------------------------------------------------------------------------------------------------------

    def make(self, far: Far | None, stack: contextlib.ExitStack) -> None:
        """Raises EnvironmentTrouble when this machine, or this user, has no namespaces to make."""
        everybody = [_SWITCH, *self.hosts]
        _run(None, [f"netns add {self._name(host)}" for host in everybody])
        if far is None:
            self._bridge()
        else:
            stack.enter_context(_switch(self._job(far)))
        for host in self.hosts:
            own = f"addr add {self.address(host)}/24 dev eth0"
            _run(self._name(host), ["link set lo up", own, f"link set eth0 address {self._hardware(host)} up"])
        self.join()

    def _bridge(self) -> None:
        ports = [
            f"link add port{i} type veth peer name eth0 netns {self._name(host)}\nlink set port{i} master bridge up"
            for i, host in enumerate(self.hosts)
        ]
        _run(self._name(_SWITCH), ["link add bridge type bridge", "link set bridge up", *ports])

    def _job(self, far: Far) -> Job:
        hosts = [Host(str(self._path(host)), self._hardware(host), far.region_of(host)) for host in self.hosts]
        return Job(tuple(hosts), far.rtt_ms / 2)

    def remove(self) -> None:
        """Also what was made by half. Processes that are still inside keep theirs until they end."""
        there = [name for host in (_SWITCH, *self.hosts) if (_FOLDER / (name := self._name(host))).exists()]
        _run(None, [f"netns del {name}" for name in there])

    def _name(self, host: str) -> str:
        return f"twinstar-{self.token}-{host}"

    def _path(self, host: str) -> Path:
        return _FOLDER / self._name(host)

    def _hardware(self, host: str) -> str:
        return f"02:00:00:00:00:{self.hosts.index(host) + 1:02x}"


@contextlib.contextmanager
def network(hosts: Iterable[str], far: Far | None = None) -> Iterator[Network]:
    """Namespaces for these hosts, removed at the end. Raises EnvironmentTrouble where they cannot be made."""
    clocks = subprocess.run((*_with_clock(1), "true"), stderr=subprocess.DEVNULL, check=False).returncode == 0
    made = Network(secrets.token_hex(4), tuple(hosts), clocks)
    with contextlib.ExitStack() as stack:
        stack.callback(made.remove)
        made.make(far, stack)
        yield made


@contextlib.contextmanager
def _switch(job: Job) -> Iterator[None]:
    """The delaying switch, which has made everybody's `eth0`."""
    program = subprocess.Popen(
        [sys.executable, "-m", "twinstar.cli.delaying"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for its parent.
    )
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stderr is not None
    try:
        program.stdin.write(job.text() + "\n")
        program.stdin.flush()
        if program.stdout.readline().strip() != "ready":
            raise _refused(program.stderr.read() or "no TAP devices")
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            program.stdin.close()
        program.wait()
        program.stdout.close()
        program.stderr.close()


def _with_clock(ahead_s: int) -> tuple[str, ...]:
    return ("unshare", "--time", f"--boottime={ahead_s}", f"--monotonic={ahead_s}")


def _run(namespace: str | None, lines: Iterable[str]) -> None:
    with _ip(namespace, lines) as program:
        _finish(program)


def _ip(namespace: str | None, lines: Iterable[str]) -> subprocess.Popen[str]:
    """`ip`, at work on these lines."""
    where = ("-n", namespace) if namespace else ()
    try:
        program = subprocess.Popen(
            ["ip", *where, "-batch", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError:
        raise EnvironmentTrouble(
            "Network namespaces need the program `ip`: install iproute2 (on Debian `apt-get install iproute2`)."
        ) from None
    assert program.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # It has something to say, and has said it.
        program.stdin.write("\n".join(lines) + "\n")
        program.stdin.close()
    return program


def _finish(program: subprocess.Popen[str]) -> None:
    assert program.stderr is not None
    said = program.stderr.read()
    if program.wait() != 0:
        raise _refused(said)


def _refused(why: str) -> EnvironmentTrouble:
    return EnvironmentTrouble(
        f"Network namespaces cannot be made here ({' '.join(why.split())}): run this as root, on a machine or in a "
        "container that allows them (CAP_SYS_ADMIN and CAP_NET_ADMIN)."
    )
