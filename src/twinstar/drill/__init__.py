"""Faults injected on purpose, with a client workload measured around them: what a failover costs, and what is lost."""
