"""The part of a graph that networks beside the edited model are trained on, from its files."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from aftershock.datasets.asked import only_taught
from aftershock.datasets.graph_facts import FactIndex
from aftershock.datasets.split import splits_of
from aftershock.tables.graph import FACTS, INSTANCES, PROMPTS, SPLIT
from aftershock.tables.models import OBJECT_SCORES, TAUGHT, VERIFIED

Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
"""INSTANCES, OBJECT_SCORES and PROMPTS rows."""


def read_training_graph(given: Any) -> tuple[Tables, FactIndex, Mapping[str, str]]:
    """Return tables, facts and the split of each entity, from a job's input files.

    `given` has facts, taught, instances, objects, prompts and split.
    """
    facts = FACTS.read(given.facts)
    if given.taught:
        facts = only_taught(facts, TAUGHT.read(given.taught))
    instances, objects = INSTANCES.read(given.instances), OBJECT_SCORES.read(given.objects)
    index = FactIndex.from_frames(facts, VERIFIED.empty())
    return (instances, objects, PROMPTS.read(given.prompts)), index, splits_of(SPLIT.read(given.split))
