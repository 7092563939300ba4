"""Keys and numbers of a configuration that would be taken and then do nothing."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from aftershock.config import check_config
from aftershock.page.roles import ROLES
from aftershock.schema import faults, read_schema
from small_project import CONFIG, errors

CONTINUED = read_schema("config")["properties"]["continuations"]["properties"]["roles"]


@pytest.mark.parametrize("number", [1, 11, 2.5, "02", True])
def test_numbers_of_objects_that_no_case_has_are_refused(project: Path, number: Any) -> None:
    (found,) = errors(project, cases={"object_counts": {2: 1, number: 3}})
    assert found.startswith("cases.object_counts: found {2: 1, ")
    assert "weights by number, from 2 to 10" in found


@pytest.mark.parametrize("counts", [{2: 1, 10: 2.5}, {"2": 1, "10": 2.5}])
def test_numbers_of_objects_are_taken_as_numbers_and_as_text(project: Path, counts: dict) -> None:
    check_config({**yaml.safe_load(CONFIG), "cases": {"object_counts": counts}}, project)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_setting(project: Path, value: float) -> None:
    (found,) = errors(project, cases={"functionality": value})
    assert found.startswith(f"cases.functionality: found {value}; expected a share between 0 and 1")
    assert errors(project, cases={"object_counts": {2: value}})


def test_probes_that_are_continued_exist(project: Path) -> None:
    (found,) = errors(project, continuations={"tokens": 4, "roles": ["old", "new_expl"]})
    assert found.startswith("continuations.roles.1: 'new_expl' is unknown; did you mean 'new_exp'? (known: ")
    assert set(CONTINUED["items"]["enum"]) == set(ROLES) - {"in_context"}  # which has no edit prompt
    assert not faults(CONTINUED["default"], CONTINUED)
