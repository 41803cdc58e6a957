"""Latency: how long nodes and whole models take on a machine, measured, and what widths have to do with it."""
