"""What the commented file says for active-active alone."""

from __future__ import annotations

from twinstar.config.plan import Plan, chosen, inline_list, key_line

NODE_KEYS = ""
NODE_LINES = ""


def head(plan: Plan) -> str:
    return f"""\

# Every node takes writes, and they bring together what crossed. docs/active-active.md says what that promises.
strategy: active-active

# When a commit is acknowledged. async: at once; the last commits of a machine that dies with its disk are lost. quorum:
# when `required` other nodes have received it on disk (not applied it: that takes a moment more). Default: async.
{key_line("durability", chosen(plan.durability, "async"), "async")}

# How many other nodes must have received a commit (quorum alone). Default: half of the nodes, rounded down (3 nodes: 1,
# 5 nodes: 2). Raise: survives more lost disks, but each commit waits for slower nodes and fewer may be missing. Lower:
# the other way round; 0 is refused, that is async.
{key_line("required", plan.required, "1")}

# quorum alone: what writes do on a node that too few others confirm. block: wait until enough are back. degrade: after
# `timing.voter_removal_ms` go on with those that are left: what is acknowledged then is lost if that machine dies as
# well. Default: block. With two nodes you must say which.
{key_line("policy", plan.policy, "block")}

# How soon silence counts as death: fast (0.4 s), balanced (1.5 s), patient (8 s). The router leaves out a node that is
# silent for a quarter of a second in any case, since that costs nothing. Default: balanced.
{key_line("preset", chosen(plan.preset, "balanced"), "balanced")}

# Which tables every node writes to: rules, of which the first that matches a table counts. A table that matches and is
# made later is taken in by itself. Default: none; `twinstar tables add` takes in single ones. Of each rule:
#   pattern: schema.name with * and ? in it (without a schema: public).
#   counters: columns whose value is the sum of what all nodes have added to it. Default: none.
#   groups: columns that win or lose together, as a mapping of names to lists. Default: the whole row does.
#   function: an SQL function, schema.name, that makes a new row of two that crossed. Default: the last one wins.
# For example [{{pattern: shop.stock, counters: [amount]}}, {{pattern: public.*}}].
# tables: []

# Milliseconds of silence after which a node is declared dead; it comes back by a copy alone then. Default: 600000 (ten
# minutes). Raise: it may be away for longer, and the others keep log for it as long (`max_slot_wal_keep_size` bounds
# that). Lower: their disks are free sooner. Clients wait for none of this.
{key_line("removal_ms", plan.removal_ms, "600000")}

# Milliseconds that a node's clock may be off from those of most others; beyond, it takes no clients. Clocks decide
# which of two writes wins that did not know each other. Default: 10000. Raise: a wrong clock wins for longer. Lower: at
# least what your time service keeps, many times over.
# clock_bound_ms: 10000
"""


def router(plan: Plan) -> str:
    any_port, read, notice = plan.router_ports
    hosts = plan.router_hosts or plan.router_bind
    return f"""\
# The router that clients connect to: it spreads them over the nodes, and takes them off one that fails.
# Leave the section out to run none; then `twinstar dsn` names all nodes to the client.
router:
  # Addresses to listen on. Default: 127.0.0.1.
  bind: {inline_list(plan.router_bind)}
  # Where clients reach the routers, in the order to try; also named in the certificates. Default: what bind says.
  {"" if plan.router_hosts else "# "}hosts: {inline_list(hosts)}
  # TCP: for reads and writes, and for reads that may be a little behind.
  any_port: {any_port}
  read_port: {read}
  # UDP: agents tell the router here what is open.
  notice_port: {notice}
  # Milliseconds that a new session waits while no node is open. Default: 10000. Raise: clients see a pause instead of
  # an error in longer outages. Lower: they hear of it sooner; 0 refuses at once.
  # max_hold_ms: 10000
  # Milliseconds that a node may lag more than the one that lags the least, and still serve read. Default: 5000. Raise:
  # more nodes serve, with older data. Lower: fresher reads.
  # max_read_lag_ms: 5000
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
  # Silence that counts as death. Default: 400, 1500, 8000. Raise: fewer false alarms. Lower: sooner notice; at least
  # two and a half heartbeats.
  # suspicion_ms: 1500
  # Policy degrade: how long a node may be silent before commits no longer wait for it. Default: 10000, 10000,
  # 16000. Raise: writes wait longer for a node that may return. Lower: a node that restarts is left out needlessly.
  # voter_removal_ms: 10000
"""
