"""Coordination stores: each is used only as a linearizable register plus watch."""
