"""Active-active in the simulator: nodes that all take writes, thousands of interleavings of them.

The rules are those of `rules.active_active`. Around them stands a model of what the database does with them: sessions
with snapshots and locks whose steps interleave (`database`), the triggers (`triggers`), the appliers (`applying`),
streams in order but late, cut and repeated (`node`, `world`). In the end everything is delivered, and all nodes must be
equal (`witness`). Each safeguard can be left out (`safeguards`), and then some seed must fail.
"""
