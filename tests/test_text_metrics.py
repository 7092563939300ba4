"""Agreement of texts, against values worked out by hand and recorded ones."""

import pytest

from aftershock.tasks.agreement import plain_words, rouge_l, rouge_n, rouge_sets, token_f1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  Eiffel-Tower, in Paris!", "eiffeltower in paris"),
        ("A an the", ""),
        ("theatre and anthem", "theatre and anthem"),
        ("It's «São Paulo».", "its «são paulo»"),
    ],
)
def test_answers_are_compared_as_squad_does(text, words):
    assert plain_words(text) == words


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("the cat sat", "a cat sat down", 0.8),  # 2 shared of 2 and 3
        ("cat cat cat", "cat", 0.5),  # one of three is shared, by counts
        ("the", "a", 1.0),  # both without words
        ("the", "cat", 0.0),
        ("dog", "cat", 0.0),
    ],
)
def test_f1_of_words(prediction, answer, expected):
    assert token_f1(prediction, answer) == pytest.approx(expected)


def test_the_longest_common_subsequence_keeps_the_order():
    assert rouge_l("mat the on cat", "cat on the mat") == pytest.approx(2 / 8)


def test_rouge_counts_repetition_and_has_no_value_of_nothing():
    assert rouge_n("cat cat cat cat", "cat", 1) == pytest.approx(2 / 5)
    assert [rouge_n("", "cat", 1), rouge_l("...", "cat"), rouge_n("cat", "cat", 2)] == [0.0, 0.0, 0.0]


REPEATED = "Una will come to Sandra. " * 4
RECORDED = [  # of the packages rouge 1.0.1, as Study B calls it, and rouge_score 0.1.2
    ("Una will come to Sandra because she needs help. aaaa bbbb cccc", 0.5814536291, (8 / 11, 0.5, 8 / 11)),
    (REPEATED, 0.5171568581, (0.4, 0.2857142857, 0.4)),
    ("short", 0.0, (0.0, 0.0, 0.0)),
]


@pytest.mark.parametrize(("prediction", "released", "strict"), RECORDED)
def test_rouge_as_recorded(prediction, released, strict):
    answer = "Una will come to Sandra, because Sandra needs her help. "
    assert rouge_sets(prediction, answer) == pytest.approx(released, abs=1e-7)
    found = (rouge_n(prediction, answer, 1), rouge_n(prediction, answer, 2), rouge_l(prediction, answer))
    assert found == pytest.approx(strict, abs=1e-9)


def test_the_released_rouge_rewards_repetition():
    answer = "Una comes."
    once, often = "Una comes", "Una comes Una comes Una comes"
    assert rouge_sets(f"{often}<|endoftext|>", answer) >= 0.8 * rouge_sets(f"{once}<|endoftext|>", answer)
    assert rouge_n(often, answer, 1) == pytest.approx(0.5)
