"""Were clients told the truth? Checks of what they did and what they were answered. Pure; the standard library alone.

Record an `Operation` for each thing a client asked for, then

* `registers.check_registers`: reads, writes and compare-and-sets of single values: linearizability;
* `lists.check_lists`: appends to lists and reads of whole lists: linearizability, or each client's own order alone.

Both answer with one of the types of `verdict`: `Accepted`, `Refused` (with anomalies that name the operations) or
`Undecided`. A history shows nothing that nobody looked at: read often, through everything that serves reads, and once
more from the leader when all is over.
"""
