"""Twinstar keeps a database answering when a machine dies."""

__version__ = "0.1.0"
