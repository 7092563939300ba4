"""Agreement of a generated text with what was expected. Pure functions of texts."""

import re
import string
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def plain_words(text: str) -> str:
    """Return the words of a text as SQuAD compares answers: in lower case, no punctuation, no articles."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def token_f1(prediction: str, answer: str) -> float:
    """Return SQuAD's F1 of the words that prediction and answer share."""
    found, wanted = plain_words(prediction).split(), plain_words(answer).split()
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return f1(shared, len(found), len(wanted))


def f1(shared: float, found: float, wanted: float) -> float:
    """Return the harmonic mean of precision and recall; 1 when nothing was wanted and nothing found."""
    return 2 * shared / (found + wanted) if found + wanted else 1.0


# --- ROUGE --------------------------------------------------------------------------------------------------


def rouge_tokens(text: str) -> list[str]:
    """Return runs of ASCII letters and digits in lower case, as Google's rouge_score without stemming."""
    return re.findall(r"[a-z0-9]+", text.lower())


def rouge_n(prediction: str, answer: str, n: int) -> float:
    """Return ROUGE-n as an F-measure, n-grams counted as often as they occur; 0 without any."""
    found, wanted = (_ngrams(rouge_tokens(text), n) for text in (prediction, answer))
    shared = sum((found & wanted).values())
    return f1(shared, found.total(), wanted.total()) if shared else 0.0


def rouge_l(prediction: str, answer: str) -> float:
    """Return ROUGE-L as an F-measure: of the longest common subsequence of the whole texts."""
    found, wanted = rouge_tokens(prediction), rouge_tokens(answer)
    shared = _longest_common(found, wanted)
    return f1(shared, len(found), len(wanted)) if shared else 0.0


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    row = [0] * (len(second) + 1)
    for token in first:
        before = row
        row = [0]
        for place, other in enumerate(second):
            longest = before[place] + 1 if token == other else max(before[place + 1], row[-1])
            row.append(longest)
    return row[-1]


# --- what released code computes ----------------------------------------------------------------------------


def rouge_sets(prediction: str, answer: str) -> float:
    """Return the mean of ROUGE-1, -2 and -L as Study B has it, from the package `rouge` 1.0.1.

    Words are what white space parts, and n-grams are sets: repeating oneself costs nothing. The last 13
    characters of the output are cut off, whether they are an end-of-document token or not.
    """
    cut = prediction[:-13]
    if len(cut) <= 1:
        return 0.0
    found, wanted = (_sentences(text) for text in (cut, answer))
    if not found or not wanted:
        return 0.0
    one, two = (_set_f(_gram_set(found, n), _gram_set(wanted, n)) for n in (1, 2))
    return (one + two + _summary_l(found, wanted)) / 3


def _sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence, which the package ends at full stops.

    White space behind the last one is a sentence of one empty word there.
    """
    return [part.split() or [""] for part in text.split(".") if part]


def _gram_set(sentences: Sequence[Sequence[str]], n: int) -> set[tuple[str, ...]]:
    words = [word for sentence in sentences for word in sentence]
    return set(_ngrams(words, n))


def _set_f(found: set, wanted: set) -> float:
    return f1(len(found & wanted), len(found), len(wanted)) if found & wanted else 0.0


def _summary_l(found: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> float:
    """Return the package's ROUGE-L of several sentences, from unions of longest common subsequences."""
    union: set[str] = set()
    for reference in wanted:
        for candidate in found:
            union |= set(_common_words(reference, candidate))
    found_words = {word for sentence in found for word in sentence}
    wanted_words = {word for sentence in wanted for word in sentence}
    return f1(len(union), len(found_words), len(wanted_words)) if union else 0.0


def _common_words(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return the words of one longest common subsequence."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, token in enumerate(first):
        for j, other in enumerate(second):
            same = token == other
            table[i + 1][j + 1] = table[i][j] + 1 if same else max(table[i][j + 1], table[i + 1][j])
    words, i, j = [], len(first), len(second)
    while i and j:
        if first[i - 1] == second[j - 1]:
            words.append(first[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words
