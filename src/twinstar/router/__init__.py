"""What clients connect to: it knows the epoch, and refuses to reach an older one."""
