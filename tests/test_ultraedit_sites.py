"""UltraEdit: names of its modules, prompts with several targets, and its warm-up."""

import logging

import pytest

from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.sites import modules_at
from aftershock.editors.statements import draw_others
from aftershock.requests import EditRequest
from editing import close, make
from tiny import requests, tiny


def test_modules_are_named_by_their_place():
    lm = tiny("llama")
    names = "model.layers.{}.mlp.{}_proj"
    assert modules_at(lm, {"gate": [1], "out": None}, [2, 1]) == [
        names.format(1, "gate"),
        names.format(1, "down"),
        names.format(2, "down"),
    ]
    assert modules_at(lm, {"in": None}, [0]) == [names.format(0, site) for site in ("gate", "up")]
    attention = modules_at(lm, {"attention": None}, [0])
    assert [name.rsplit(".", 1)[1] for name in attention] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    with pytest.raises(ValueError, match="gpt2 model have no gate, up; they have attention, in, out"):
        modules_at(tiny(), {"gate": None, "up": [0]}, [0])
    with pytest.raises(ValueError, match=r"name no module in layers \[0, 1\]; `layers` has to hold every"):
        modules_at(lm, {"gate": [2]}, [0, 1])


def test_a_prompt_with_several_targets_is_named(caplog):
    lm = tiny()
    case = [EditRequest("{} was born in", "Dario", city) for city in ("Oslo", "Rome", "Oslo")]
    with caplog.at_level(logging.WARNING):
        result = make("ultraedit", lm, layers=[1]).edit([requests(2), case])
    assert result.reasons == (None, None)
    (said,) = caplog.messages
    assert said.startswith("1 of 2 cases ask for several targets")
    assert said.endswith("'Dario was born in' followed by 'Oslo', 'Rome'")
    caplog.clear()
    make("ultraedit", lm, layers=[1]).edit([requests(2)])
    assert not caplog.messages


def warmed(lm, others, warm_up=4):
    """An editor whose normalisers have seen some of `others`."""
    settings = settings_of("ultraedit", {"layers": [0, 1], "lr": 0.01, "warm_up": warm_up})
    return method_of("ultraedit").make(lm, settings, {"other_edits": others})


def test_a_warm_up_is_an_edit_of_other_cases_of_which_only_the_statistics_stay():
    lm, cases, others = tiny(), [[request] for request in requests(3)], requests(5, template=1)
    editor, plain = warmed(lm, others), warmed(lm, [], 0)
    first = editor.edit(cases)
    seen = plain.edit([draw_others(others, [], 4, 0)]).memory
    known = {name: tensor.repeat(3, *[1] * (tensor.ndim - 1)) for name, tensor in seen.items()}
    wanted = plain.edit(cases, (), known)
    assert close(first.delta, wanted.delta)
    assert not close(first.delta, plain.edit(cases).delta, 1e-3)
    # a later edit is not warmed up once more
    second = editor.edit(cases, first.delta, first.memory)
    assert close(second.delta, plain.edit(cases, wanted.delta, wanted.memory).delta)


def test_a_warm_up_without_other_cases_is_refused():
    with pytest.raises(ValueError, match="needs first edits of other cases"):
        warmed(tiny(), []).edit([[requests(1)[0]]])
