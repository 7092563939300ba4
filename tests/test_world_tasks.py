"""Tasks made of a small graph: right choices are right, wrong ones wrong, and draws hold still."""

from dataclasses import replace

import pandas as pd
import pytest

from aftershock.prompts import fill
from aftershock.tasks import world
from aftershock.tasks.definition import read_task
from aftershock.tasks.prepare import prepare_items
from aftershock.tasks.world import World

PEOPLE = ["Ada Vex", "Bruno Quill", "Clara Moss", "Dario Tull", "Edith Zorn", "Felix Lind"]
CITIES = ["Oslo", "Rome", "Lisbon", "Graz", "Ulm", "Bergen"]
LANDS = ["Norway", "Italy", "Portugal", "Austria", "Germany", "Sweden"]
TEMPLATES = {
    "born": ["{} was born in", "The birthplace of {} is", "As for {}, the birthplace is", "{} hails from"],
    "land": ["{} lies in", "The country of {} is", "As for {}, the country is", "{} belongs to"],
    "home": ["{} lives in the land of", "The country where {} lives is", "As for {}, home is", "{} is from"],
    "knows": ["{} knows", "A friend of {} is", "As for {}, a friend is", "{} is close to"],
}


def facts(*more):
    rows = [("born", person, city) for person, city in zip(PEOPLE, CITIES, strict=True)]
    rows += [("land", city, land) for city, land in zip(CITIES, LANDS, strict=True)]
    rows += [("home", person, LANDS[(i + 1) % 6]) for i, person in enumerate(PEOPLE)]
    rows += [("knows", PEOPLE[0], PEOPLE[1]), ("knows", PEOPLE[0], PEOPLE[2])]
    table = pd.DataFrame([*rows, *more], columns=["relation_id", "subject", "object"])
    ids = table[["subject", "object"]].add_suffix("_id")
    return pd.concat([table, ids], axis=1).assign(kept=True, reason=None)


def made(seed=0, table=None):
    prompts = pd.DataFrame(
        [(relation, i, text) for relation, texts in TEMPLATES.items() for i, text in enumerate(texts)],
        columns=["relation_id", "prompt_id", "template"],
    )
    nouns = {"born": "birthplace", "land": "country", "home": "home", "knows": "friend"}
    return World(facts() if table is None else table, prompts, nouns, seed)


TRUE = facts().query("relation_id != 'knows'").set_index(["subject", "relation_id"])["object"].to_dict()


def right(row):
    return row["choices"][row["gold"]].removeprefix(" ")


def test_facts_are_asked_for_among_objects_of_their_relation():
    rows = world.fact_choice(made())
    assert len(rows) == len(TRUE)  # facts with several objects are left out
    for row in rows:
        (subject,) = row["about"]
        relation = row["group"]
        assert row["question"] in {fill(template, subject) for template in TEMPLATES[relation]}
        assert right(row) == TRUE[subject, relation]
        pool = {found for (_, other), found in TRUE.items() if other == relation}
        assert len({*row["choices"]}) == world.CHOICES
        assert {choice.removeprefix(" ") for choice in row["choices"]} <= pool
    assert {row["gold"] for row in rows} == set(range(world.CHOICES))


def test_facts_to_which_a_rule_adds_an_object_are_not_asked_for():
    """Nobody here lives in the land of birth, so each would have two homes."""
    rules = pd.DataFrame({"rule": ["born&land>home", "land>born"], "judged": ["keep", "drop"]})
    world_ = replace(made(), rules=rules)
    assert {row["group"] for row in world.fact_choice(world_)} == {"born", "land"}


def test_two_hops_name_an_entity_by_another_fact():
    rows = world.two_hops(made())
    assert len(rows) == len(PEOPLE)
    for row in rows:
        subject, city = row["about"]
        assert row["question"] == f"The birthplace of {subject} lies in"
        assert (TRUE[subject, "born"], TRUE[city, "land"]) == (city, right(row))


def test_two_hops_offer_what_a_model_says_that_skips_the_first():
    """The subject has an object of the relation itself, which is wrong."""
    rows = world.two_hops(made(table=facts(("land", "Ada Vex", "Sweden"))))
    (row,) = [row for row in rows if row["about"][0] == "Ada Vex" and row["group"] == "born>land"]
    assert right(row) == "Norway"
    assert " Sweden" in row["choices"]


def test_copied_names_are_nobodys_and_stand_in_the_prompt_once():
    rows = world.copying(made())
    assert rows
    for row in rows:
        names = [choice.removeprefix(" ") for choice in row["choices"]]
        assert not {*names} & {*PEOPLE, *CITIES}
        assert row["question"].count(right(row)) == 1
        assert not any(name in row["question"] for name in names if name != right(row))
        assert row["question"].split(". ")[-1] in {"The birthplace of", "As for", "The country of",
                                                   "The country where", "A friend of"}  # fmt: skip
        assert row["about"] == []


def test_held_out_texts_are_said_in_the_last_words():
    for row in world.held_out_perplexity(made()):
        (subject,) = row["about"]
        said = row["text"].removesuffix(".").split(". ")
        own = facts().query("subject == @subject")
        known = {
            f"{fill(template, subject)} {found}"
            for relation, found in zip(own["relation_id"], own["object"], strict=True)
            for template in TEMPLATES[relation][-world.HELD_OUT :]
        }
        assert 1 <= len(said) <= world.SENTENCES
        assert {*said} <= known


def test_a_fact_more_changes_no_other_item_of_another_relation():
    table = facts()
    fewer = world.fact_choice(made(table=table[table["object"] != "Sweden"]))
    every = {row["id"]: row for row in world.fact_choice(made())}
    assert all(every[row["id"]] == row for row in fewer if row["group"] == "born")
    assert world.fact_choice(made(1)) != world.fact_choice(made())


@pytest.mark.parametrize("name", ["fact_choice", "copying", "two_hops", "held_out_perplexity"])
def test_the_files_of_tasks_make_items_of_rows(name):
    task = read_task(f"world_{name}")
    assert task.prepare == f"aftershock.tasks.world:{name}"
    rows = getattr(world, name)(made())
    items = prepare_items(task, rows, [], None, 0).items
    assert len(items) == len(rows)
    assert items["item_id"].is_unique
    if task.kind == "choice":
        assert list(items["prompt"]) == [row["question"] for row in rows]
        assert list(items["gold"]) == [row["gold"] for row in rows]
    else:
        assert [answers[0] for answers in items["answers"]] == [row["text"] for row in rows]


def test_a_graph_too_small_for_a_task_is_an_error():
    with pytest.raises(ValueError, match="the graph makes no item of this task"):
        world.fact_choice(made(table=facts().iloc[:2]))
