"""Metrics of tasks, for one item and for many, against values worked out by hand and scikit-learn's."""

import json
import math
import sys
import types

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from aftershock.tasks import instructions
from aftershock.tasks.answers import forms, parse
from aftershock.tasks.definition import make_task
from aftershock.tasks.metrics import METRICS, Outcome


def outcome(**given):
    given = {"choices": (), "gold": None, "answers": (), "logprobs": (), "n_tokens": (), "text": ""} | given
    return Outcome(**({"prompt": "", "group": "", "finished": False} | given))


def choice(logprobs, gold=0, choices=(" a", " bb", " cccc"), tokens=(1, 1, 4), **more):
    n = len(logprobs)
    return outcome(choices=choices[:n], gold=gold, logprobs=logprobs, n_tokens=tokens[:n], **more)


def how(**parse):
    return make_task("t", {"parse": parse}).parse


def score(metric, *outcomes, **parse):
    return METRICS[metric].score(outcomes, how(**parse))


def value(metric, one, **parse):
    return score(metric, one, **parse)[0].value


def many(metric, *outcomes, **parse):
    """The value of many items, through a table as it is written."""
    scores = score(metric, *outcomes, **parse)
    rows = pd.DataFrame([vars(each) for each in scores])
    return METRICS[metric].combine(rows.assign(group=[each.group for each in outcomes]))


# --- choices ------------------------------------------------------------------------------------------------
def test_the_likeliest_choice_by_sum_token_and_character():
    one = choice([-2.0, -3.0, -4.0], gold=2)  # per token -2 -3 -1, per character -2 -1.5 -1
    assert [value(f"acc{per}", one) for per in ("", "_per_token", "_per_character")] == [0, 1, 1]
    assert score("acc", one)[0].prediction == "a"
    assert score("acc_per_token", one)[0].prediction == score("acc", one)[0].gold == "cccc"


def test_ranks_of_the_right_choice():
    assert value("mrr", choice([-2.0, -3.0, -4.0], gold=1)) == 1 / 2
    assert [value("recall_at_2", choice([-2.0, -3.0, -4.0], gold=gold)) for gold in range(3)] == [1, 1, 0]
    assert value("mrr", choice([-2.0, -2.0, -2.0])) == 1 / 3  # a tie is no knowledge


def test_the_mass_of_true_choices():
    one = choice(np.log([0.2, 0.1, 0.1]), answers=(" a", " cccc"))
    assert value("mc2", one) == pytest.approx(3 / 4)


def test_log_probabilities_that_are_no_numbers_are_no_answer():
    for metric in ("acc", "mrr", "mc2", "auc"):
        found = score(metric, choice([math.nan, -1.0]))[0]
        assert (found.value, found.parsed, found.prediction) == (0.0, False, "")


def two_way(n=60):
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, n)
    gold[:20] = 0
    logprobs = np.round(rng.normal(size=(n, 2)) + gold[:, None] * [0, 0.7], 1)  # with ties
    items = [choice(list(pair), int(g), (" no", " yes")) for pair, g in zip(logprobs, gold, strict=True)]
    return items, gold, logprobs


def test_many_items_of_two_choices_as_in_scikit_learn():
    items, gold, logprobs = two_way()
    predicted = logprobs.argmax(1)
    assert many("auc", *items) == pytest.approx(roc_auc_score(gold, logprobs[:, 1] - logprobs[:, 0]))
    assert many("balanced_acc", *items) == pytest.approx(balanced_accuracy_score(gold, predicted))
    assert many("weighted_f1", *items) == pytest.approx(f1_score(gold, predicted, average="weighted"))
    assert many("acc", *items) == pytest.approx((gold == predicted).mean())


def test_the_area_is_of_two_choices():
    with pytest.raises(ValueError, match="an item has 3 choices"):
        score("auc", choice([-1.0, -2.0, -3.0]))


# --- generated texts ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        (" So 3 + 4 is 7. The answer is $1,200.50.", {"pattern": r"answer is (\S+?)\.?$"}, "$1,200.50"),
        ("no such thing", {"pattern": r"answer is (.*)"}, None),
        (" B or C", {"pattern": r"\b([A-D])\b"}, "B"),
        (" B or C", {"pattern": r"\b([A-D])\b", "take": "last"}, "C"),
        (" Negative, not positive", {"words": ["positive", "negative"]}, "negative"),
        (" neither", {"words": ["positive", "negative"]}, None),
        ("  Rome \n", {}, "Rome"),
        ("  \n", {}, None),
    ],
)
def test_answers_in_texts(text, given, expected):
    assert parse(text, how(**given)) == expected


def test_forms_of_answers():
    assert forms("number")("$1,200.50 dollars") == forms("number")("1200.5")
    assert forms("number")("-3") != forms("number")("3")
    assert forms("number")("−3") == forms("number")("-3")
    assert forms("words")("The") == "the"
    assert forms("number")("none") == "none"
    assert forms("words")("The Rome!") == "rome"
    assert forms("lower")(" (A) ") == "(a)"


def test_exact_matches_and_texts_without_an_answer():
    letters = [outcome(text=text, answers=("B",)) for text in (" B.", " C", "")]
    letter = {"pattern": r"\b([A-D])\b"}
    assert [each.value for each in score("exact_match", *letters, **letter)] == [1, 0, 0]
    assert [each.parsed for each in score("exact_match", *letters, **letter)] == [True, True, False]
    assert many("exact_match", *letters, **letter) == pytest.approx(1 / 3)
    assert many("exact_match_of_parsed", *letters, **letter) == pytest.approx(1 / 2)
    assert many("exact_match_of_parsed", letters[2], **letter) == 0  # it says nothing any more


def test_an_unparsed_answer_is_of_no_class():
    words = {"words": ["yes", "no"], "form": "lower"}
    pairs = [("yes", "yes"), ("no", "no"), ("maybe", "no"), ("yes", "no")]
    items = [outcome(text=text, answers=(gold,)) for text, gold in pairs]
    expected = f1_score([g for _, g in pairs], ["yes", "no", "", "yes"], average="weighted", zero_division=0)
    assert many("weighted_f1_of_words", *items, **words) == pytest.approx(expected)
    assert many("balanced_exact_match", *items, **words) == pytest.approx((1 + 1 / 3) / 2)


def test_the_best_of_several_answers():
    one = outcome(text=" the red cat", answers=("dog", "a cat"))
    assert value("f1", one) == pytest.approx(2 / 3)
    assert value("rouge1", outcome(text="a b c", answers=("x", "a b"))) == pytest.approx(4 / 5)


def test_an_answer_anywhere_in_the_text():
    assert value("contains", outcome(text=" 15 apples", answers=("5",))) == 1
    assert value("contains", outcome(text=" in New-York", answers=("new york",)), form="words") == 0
    assert value("contains", outcome(text=" In The Hague!", answers=("hague",)), form="words") == 1
    assert value("contains", outcome(text=" a famous man", answers=("US",)), form="words") == 0
    assert value("contains", outcome(text=" 是巴黎市。", answers=("巴黎",)), form="words") == 1


def test_a_number_is_one_of_those_in_the_text():
    assert value("contains", outcome(text="First 3, then 7.0", answers=("7",)), form="number") == 1
    assert value("contains", outcome(text="15", answers=("5",)), form="number") == 0
    long = outcome(text="1234567890124", answers=("1234567890123",))
    assert value("exact_match", long, form="number") == 0
    for text in ("$1,250.50", "1250.5", "01250.50"):
        assert value("exact_match", outcome(text=text, answers=("1250.5",)), form="number") == 1
    assert value("exact_match", outcome(text="-0.0", answers=("0",)), form="number") == 1


def test_classes_of_words_are_compared_as_answers_are():
    said = [("Yes", "yes"), ("No", "no"), ("yes", "Yes"), ("NO", "no"), ("no", "yes")]
    given = [outcome(text=text, answers=(gold,)) for text, gold in said]
    how = {"pattern": r"(?i)\b(yes|no)\b", "form": "lower"}
    wanted = f1_score([g.lower() for _, g in said], [t.lower() for t, _ in said], average="weighted")
    assert many("weighted_f1_of_words", *given, **how) == pytest.approx(wanted)
    alias = outcome(text="Holland", answers=("Netherlands", "Holland"))
    assert many("weighted_f1_of_words", alias, form="lower") == 1


def test_an_answer_without_words_is_not_in_every_text():
    for name in ("contains", "exact_match"):
        assert value(name, outcome(text=" Rome.", answers=("A+",)), form="words") == 0
        assert value(name, outcome(text=" .", answers=("A+",)), form="words") == 0
    assert value("exact_match", outcome(text=" A+", answers=("A+",)), form="words") == 1


def test_entities_of_a_list():
    said = " PER: Ann Lee; LOC: Rome; LOC: Rome; ORG: Oslo; nonsense"
    first = outcome(text=said, answers=("PER: Ann Lee", "LOC: Rome", "LOC: Oslo"))
    none, silent = outcome(text=" none"), outcome(text="")
    found = score("entity_f1", first, none, silent, form="lower")
    assert [(each.hits, each.found, each.wanted) for each in found] == [(2, 4, 3), (0, 0, 0), (0, 0, 0)]
    assert [each.value for each in found] == [pytest.approx(4 / 7), 1.0, 0.0]
    assert [each.parsed for each in found] == [True, True, False]
    loose = outcome(text="PER:Ann  Lee;LOC : Rome; ORG: ; : Oslo", answers=("PER: Ann Lee", "LOC: Rome"))
    (found,) = score("entity_f1", loose, form="lower")
    assert (found.hits, found.found, found.wanted) == (2, 2, 2)
    assert score("entity_f1", outcome(text=" None."), form="lower")[0].parsed
    wrong = outcome(text="LOC: Rome", answers=("PER: Ann Lee",))
    assert many("entity_f1", first, wrong, form="lower") == pytest.approx(2 * 2 / (5 + 4))


class Loud:
    """Asks for capital letters, as IFEval's classes are asked."""

    def __init__(self, name):
        self.args = {}

    def build_description(self, **args):
        self.args |= args

    def get_instruction_args(self):
        return {"prompt": None}

    def check_following(self, text):
        assert self.args == {"prompt": "Say it", "n": 2}
        return text.isupper()


def test_instructions_are_counted_one_by_one_and_all_together(monkeypatch):
    short = type("Short", (Loud,), {"check_following": lambda _, text: len(text) < 5})
    registry = types.ModuleType("instructions_registry")
    registry.INSTRUCTION_DICT = {"loud": Loud, "short": short}
    for module in ("lm_eval", "lm_eval.tasks", "lm_eval.tasks.ifeval"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    monkeypatch.setitem(sys.modules, "lm_eval.tasks.ifeval.instructions_registry", registry)
    monkeypatch.setattr(instructions, "_registry", instructions._registry.__wrapped__)
    asked = {"prompt": "Say it", "instruction_id_list": ["loud", "short"]}
    asked |= {"kwargs": [{"n": 2, "m": None}, {}]}
    items = [outcome(text=text, answers=(json.dumps(asked),)) for text in ("YES", "CERTAINLY", "")]
    assert [each.value for each in score("instructions_followed", *items)] == [1, 0, 0]
    assert many("instructions_followed_each", *items) == pytest.approx(3 / 6)
    with pytest.raises(ValueError, match="unknown instruction 'soft'"):
        value("instructions_followed", outcome(answers=(json.dumps(asked).replace("loud", "soft"),)))


# --- as released --------------------------------------------------------------------------------------------
def test_released_entities_are_substrings_by_kind():
    items = [
        outcome(group="Person", text=" Ann Lee and Bo", answers=("Ann Lee", "Bo", "Cy")),
        outcome(group="Person", text=" nobody"),  # counts nowhere
        outcome(group="Location", text=" anything", answers=("",)),  # at a sentence's end: always found
        outcome(group="Miscellaneous", text=" Dutch", answers=("Dutch",)),
        outcome(group="Miscellaneous", text=" nothing"),  # a missed one
        outcome(group="Organization", text=""),  # an empty output without entities is a found one
    ]
    assert many("entity_recall_released", *items) == pytest.approx((2 / 3 + 1 + 1 / 2 + 1) / 4)


def test_a_model_that_ends_at_once_finds_no_released_entities():
    """Its output is the end-of-document token, which the code reads as text."""
    ended = outcome(group="Person", text="", finished=True)
    assert math.isnan(value("entity_recall_released", ended))
    missed = outcome(group="Miscellaneous", text="", finished=True)
    assert many("entity_recall_released", ended, missed) == 0
    again = outcome(group="Person", text=" Ann Entity: Bo", answers=("Ann", "Bo"))
    assert value("entity_recall_released", again) == 0.5  # it is read up to the next mark


def test_a_released_answer_that_the_model_ends_has_no_last_word():
    said = {"text": " it is Rome", "answers": ("Rome",)}
    assert [value("spans_released", outcome(**said, finished=ended)) for ended in (False, True)] == [1, 0]
    assert value("spans_released", outcome(text=" Rome it is", answers=("Rome",), finished=True)) == 1


def test_released_spans_count_repeats_and_forget_after_a_hit():
    said = ["x rome y rome z rome w", "in new york city", "go new york city", "new york it is", "it is rome"]
    items = [outcome(text=f"Answer: {text}", answers=("rome", "new york")) for text in said]
    items.append(outcome(prompt="passage of rome here ", text="unsure", answers=("rome",)))
    assert [each.value for each in score("spans_released", *items)] == [3, 1, 0, 1, 1, 0]
    assert [each.value for each in score("spans_released", items[-1])] == [1]  # the passage is searched too


def test_the_end_of_a_released_summary_is_cut_off():
    answer = ("Ann comes to Rome tomorrow evening",)
    text = "Ann comes to Rome tomorrow evening"
    assert value("rouge_released", outcome(text=text, answers=answer, finished=True)) == pytest.approx(1)
    assert value("rouge_released", outcome(text=text, answers=answer)) < 0.9
    assert value("rouge_released", outcome(text=f"noise DR:{text}", answers=answer, finished=True)) > 0.99


# --- texts scored whole -------------------------------------------------------------------------------------
def test_perplexity_is_of_all_tokens_together():
    given = (("ab", -6.0, 2), ("Äbcd", -2.0, 6))
    texts = [outcome(answers=(text,), logprobs=[sum_], n_tokens=[n]) for text, sum_, n in given]
    assert [value("nll", text) for text in texts] == [3, 1 / 3]
    assert many("perplexity", *texts) == pytest.approx(math.exp(8 / 8))
    assert many("nll", *texts) == 1
    assert many("bits_per_byte", *texts) == pytest.approx(8 / math.log(2) / 7)
