"""Planning is faster, and nothing else."""

import gc
import inspect

import pytest
from snakemake.io import IOFile
from snakemake.output_index import OutputIndex

from aftershock.jobs.planning import plan_faster


@pytest.fixture
def faster(monkeypatch):
    for owner, name in ((inspect, "signature"), (OutputIndex, "match_producers")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # as it was, afterwards
    before = gc.get_threshold()
    plan_faster()
    plan_faster()  # a second time changes nothing
    yield
    gc.set_threshold(*before)


class Unhashable:
    __hash__ = None

    def __call__(self, wildcards, attempt=1):
        return wildcards


def test_signatures_are_those_that_python_has(faster):
    def one(wildcards, *, attempt):
        return wildcards

    for function in (one, lambda a, b=2: a, Unhashable(), "abc".split, gc.collect):
        again = [inspect.signature(function) for _ in range(2)]
        assert again[0] == again[1] == inspect.Signature.from_callable(function)
    assert inspect.signature.cache_info().hits >= 3
    with pytest.raises(TypeError, match="not a callable"):
        inspect.signature(3)


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
