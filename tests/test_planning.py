"""Planning is faster, and nothing else."""

import gc

import pytest
from snakemake.io import IOFile
from snakemake.output_index import OutputIndex

from aftershock.jobs.patches import plan_faster


@pytest.fixture
def faster(monkeypatch):
    monkeypatch.setattr(OutputIndex, "match_producers", OutputIndex.match_producers)  # as it was, afterwards
    before = gc.get_threshold()
    plan_faster()
    plan_faster()  # a second time changes nothing
    yield
    gc.set_threshold(*before)


def test_a_file_has_the_rules_that_it_had(faster):
    rules = [Rule("a/{i}.txt"), Rule("a/{i}.csv")]
    index = OutputIndex(rules)
    assert [index.match_producers("a/1.txt") for _ in range(2)] == [{rules[0]}] * 2
    assert index.match_producers("a/1.pdf") == set()
    assert OutputIndex(rules[1:]).match_producers("a/1.txt") == set()


class Rule:
    """As much of a rule as the index asks for."""

    def __init__(self, pattern):
        self.product = IOFile(pattern)

    def products(self):
        return [self.product]

    def is_producer(self, path):
        return bool(self.product.match(path))


def test_garbage_is_looked_for_less_often(faster):
    assert gc.get_threshold()[0] == 200_000
    assert gc.isenabled()
