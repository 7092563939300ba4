"""Whether a text that a model goes on with names an object."""

import pytest

from aftershock.matching import begins_with, goes_on_with, names


@pytest.mark.parametrize(
    ("text", "label", "begins", "inside"),
    [
        (" Oslo.", "Oslo", True, True),
        ("\n OSLO  Fjord", "oslo fjord", True, True),
        (" Oslofjord", "Oslo", False, False),
        (" in Oslo", "Oslo", False, True),
        (" the (C++) guild", "the (C++)", True, True),
        (" in São Paulo", "São  Paulo", False, True),
        ("", "Oslo", False, False),
    ],
)
def test_what_a_continuation_names(text, label, begins, inside):
    assert begins_with(text, label) == begins
    assert names(text, label) == inside


@pytest.mark.parametrize(
    ("text", "said"),
    [(" Order of the Heron.", True), (" Order of", None), (" Order of the Her", None), (" Order, of", False),
     ("", False), (None, None), (" order of the heron", True)],
)  # fmt: skip
def test_a_continuation_that_ends_within_an_object_says_nothing(text, said):
    assert goes_on_with(text, "Order of the Heron") is said
