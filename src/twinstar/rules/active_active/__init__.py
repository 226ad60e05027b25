"""Active-active: every node takes writes, and all end up equal.

What a node knows of a key is an element of a join semilattice (`state`), and whatever it learns is joined to that.
`stamps` orders the writes, `writing` says what a local write adds, `conflicts` what was lost, `uniques` who must go,
`collecting` when a tombstone may, `membership` what becomes of a member that dies, `skew` whose clock nobody should
follow. Where it runs, these rules are SQL; this is what the SQL must do.
"""
