"""Optimisation, metrics and checkpoints."""
