"""What everything simulated stands on: virtual time, clocks, processes that freeze, networks."""
