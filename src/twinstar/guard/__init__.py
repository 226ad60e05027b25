"""The small second process on a node: heartbeats, an eye on the database and on the agent, the fence.

`core` decides (pure), `shell` does, `settings` is what it is told at its start. Standard library only, no asyncio.
"""
