"""WISE with settings that leave a small model whole."""

import editing

MILD = {"layers": [1], "steps": 4, "lr": 0.3, "alpha": 0.1, "beta": 0.6, "gamma": 0.3}
MILD |= {"norm_constraint": 0.05, "weight_decay": 1e-2}
CONTEXTS = [["{}"], ["It rains. {}"]]


def make(lm, contexts=CONTEXTS, **changes):
    return editing.make("wise", lm, contexts, **MILD | changes)
