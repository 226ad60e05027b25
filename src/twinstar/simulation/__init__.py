"""Whole clusters on virtual time in one process: the agents' own code on models of time, network, store and database.

A model must never be kinder than the real thing; each passes the conformance suite of what it stands for.
"""
