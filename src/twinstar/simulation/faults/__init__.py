"""What is done to a simulated cluster: the menu, the traps, and how a day of disasters is put together."""
