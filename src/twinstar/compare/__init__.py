"""Both strategies through the same faults with the same clients: what each of them really costs, as figures."""
