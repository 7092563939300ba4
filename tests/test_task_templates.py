"""Templates of tasks: what they fill in, and what they refuse."""

import pytest

from aftershock.tasks.templates import evaluate, render, texts


def test_templates_are_filled_with_what_fields_hold_literally():
    fields = {"text": "{{ 7 * 7 }} {% raw %} <b>&", "row": {}}
    assert render("say: {{ text }}\n", fields) == "say: {{ 7 * 7 }} {% raw %} <b>&\n"


def test_templates_cannot_reach_out_of_their_fields():
    with pytest.raises(ValueError, match="unsafe"):
        render("{{ text.__class__.__mro__ }}", {"text": "a"})
    with pytest.raises(ValueError, match="immutable|unsafe|not callable"):
        render("{{ names.append('b') }}", {"names": ["a"]})


def test_a_field_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="'colour' is undefined"):
        render("{{ colour }}", {"color": "red"})
    with pytest.raises(ValueError, match="'colour' is undefined"):
        evaluate("colour", {"color": "red"})
    with pytest.raises(ValueError, match="found 'red'; expected a list"):
        texts("color", {"color": "red"})


NULLS = (
    *("{{ q }}", "{{ q | trim }}", "{{ q | replace('a', 'b') }}", "{{ q | lower }}", "{{ 'x ' ~ q }}"),
    *("{{ [q, 'b'] | join(';') }}", "{{ q | sub('a') }}", "{{ q | part('(a)') }}", "{{ options(q) }}"),
    *("{{ row.names[0].first | trim }}", "{{ row.names[1] | string }}", "{{ row.names | join(' ') }}"),
)


@pytest.mark.parametrize("template", NULLS)
def test_a_field_that_is_null_counts_as_lacking(template):
    fields = {"q": None, "row": {"names": [{"first": None}, None]}}
    with pytest.raises(ValueError, match="is null"):
        render(template, fields)
    with pytest.raises(ValueError, match="is null"):
        evaluate(template.strip("{} "), fields)
    assert render("{{ q if q is defined else 'b' }}", fields) == "b"
    assert evaluate("q is defined", fields) is False


def test_a_list_of_texts_is_one():
    with pytest.raises(ValueError, match="'color' is null"):
        texts("[color]", {"color": None})


def test_filters_of_templates():
    assert texts("names | spaced", {"names": ["a", "b"]}) == [" a", " b"]
    assert texts("names | marked([0, 1, 1])", {"names": ["a", "b", "c"]}) == ["b", "c"]
    assert render("{{ t | sub('<<.*?>>') }}", {"t": "2+3=<<2+3=5>>5"}) == "2+3=5"
    assert render("{{ t | part('#### *(.*)') }}", {"t": "so\n#### 18"}) == "18"
    with pytest.raises(ValueError, match="nothing fits"):
        render("{{ t | part('#### (.*)') }}", {"t": "so"})
    listed = "Q?\nOptions:\n(A) one\n(B) two (C) no"
    assert evaluate("options(t)", {"t": listed}) == ["(A)", "(B)"]
    assert evaluate("option_texts(t)", {"t": "Q?\nOptions:\n(A) some ship\n(B)  (old) ship "}) == [
        "some ship",
        "(old) ship",
    ]
    assert evaluate("options(t)", {"t": "Q?\nOptions:\n- Yes\n- No"}) == ["Yes", "No"]
