"""What the rest needs from outside, as protocols, and their real versions: clock, randomness, network, processes.

Nothing else in the package imports `time`, `random`, `socket`, `subprocess` or `signal`, or asks asyncio for the time;
lint proves it. That is what lets the simulator run the real code.
"""
