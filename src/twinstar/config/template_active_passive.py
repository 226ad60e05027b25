"""What the commented file says for active-passive alone."""

from __future__ import annotations

from twinstar.config.plan import Plan, chosen, inline_list, key_line

NODE_KEYS = """\
#   tags.nofailover: true makes it a node that never leads and confirms no commit: for reports or a distant site.
#     Default: false. It does not count as a data node.
#   tags.priority: of two nodes that are equally far the one with more leads. Default: 0. It never outweighs data.
"""
NODE_LINES = """\
    # tags:
    #   nofailover: false
    #   priority: 0
"""


def head(plan: Plan) -> str:
    return f"""\

# One leader takes the writes, the standbys follow it.
{key_line("strategy", chosen(plan.strategy, "active-passive"), "active-passive")}

# When a commit is acknowledged. quorum: when `required` other nodes have it on disk, so a failover loses nothing and
# waits for no lease. async: at once; commits are faster by a round trip and writes go on with no standby, but a
# failover takes the lease's time and may lose what had not arrived. Default: quorum.
{key_line("durability", chosen(plan.durability, "quorum"), "quorum")}

# How many other nodes must have a commit on disk (quorum alone). Default: half of the data nodes, rounded down
# (3 nodes: 1, 5 nodes: 2). Raise: survives more lost disks, but each commit waits for slower nodes and fewer may be
# missing. Lower: the other way round; 0 is refused, that is async.
{key_line("required", plan.required, "1")}

# What writes do when too few nodes can confirm them. block: wait until enough are back; nothing acknowledged is ever
# lost. degrade: after `timing.voter_removal_ms` go on with those that are left, down to one copy: writes acknowledged
# then are lost if that machine dies as well. Default: block. With two data nodes you must say which.
{key_line("policy", plan.policy, "block")}

# How soon silence counts as death: fast (0.4 s), balanced (1.5 s), patient (8 s). Faster: shorter outages, but a
# busy or distant network needs the calm ones: a false alarm costs a short pause, never data. Default: balanced.
{key_line("preset", chosen(plan.preset, "balanced"), "balanced")}

# async alone, milliseconds: for how long a leader may lead after each renewal in the store. Default: 10000. Raise:
# rides out longer pauses of the store, but a failover waits as long. Lower: the other way round; at least three
# renewals.
{key_line("lease_ms", plan.lease_ms, "10000")}

# async alone, bytes: a standby further behind does not take over by itself. Default: 1048576 (1 MiB). Raise: fails over
# in more cases and may lose more. Lower: loses less, and more often waits for you.
# maximum_lag_bytes: 1048576
"""


def router(plan: Plan) -> str:
    write, read, notice = plan.router_ports
    hosts = (
        f"  hosts: {inline_list(plan.router_hosts)}"
        if plan.router_hosts
        else f"  # hosts: {inline_list(plan.router_bind)}"
    )
    return f"""\
# The router that clients connect to: it knows who leads, ends sessions of a former leader and holds new ones meanwhile.
# Leave the section out to run none; then `twinstar dsn` names all members to the client.
router:
  # Addresses to listen on. Default: 127.0.0.1.
  bind: {inline_list(plan.router_bind)}
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


TIMING = """\
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
  # Policy degrade: how long a voter may be silent before it is dropped. Default: 10000, 10000, 16000. Raise: writes
  # wait longer for a node that may return. Lower: a node that restarts is dropped and taken back needlessly.
  # voter_removal_ms: 10000
  # After an agent's start: how long it waits for nodes that it has not heard yet. Default: 10000. Raise: slow boots
  # raise no alarm. Lower: after a power loss the survivors go on sooner.
  # start_grace_ms: 10000
  # How long a guard that knows of a newer leader waits for its own agent before it ends the database. Default: 2000.
  # Raise: a slow agent may finish in order. Lower: a hung agent's old database goes sooner.
  # guard_grace_ms: 2000
"""
