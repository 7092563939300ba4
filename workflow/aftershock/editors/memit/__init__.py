"""MEMIT: one value spread over several layers."""
