"""Experiments on a model: cases through their states, tuning, layer sweeps, and what the model knows."""
