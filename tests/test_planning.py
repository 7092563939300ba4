"""Planning is faster, and nothing else."""

import gc
import inspect

import pytest

from aftershock.jobs.planning import plan_faster


@pytest.fixture
def faster(monkeypatch):
    monkeypatch.setattr(inspect, "signature", inspect.signature)  # as it was, afterwards
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


def test_garbage_is_looked_for_less_often(faster):
    assert gc.get_threshold()[0] == 200_000
    assert gc.isenabled()
