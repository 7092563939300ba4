"""ROME: one rank-one change at one layer."""
