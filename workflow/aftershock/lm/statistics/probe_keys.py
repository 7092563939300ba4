"""Keys of well-known subjects: a probe set in place of a study's cases."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aftershock.lm.edits import EMPTY
from aftershock.lm.hooks import at_subjects
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import locate

PROMPT = "This is about {}"
"""The prompt around each subject, which keeps it from the first position of the text, where keys are unlike
all others in many models."""
SUBJECTS = (
    *("Albert Einstein", "Marie Curie", "Mahatma Gandhi", "Frida Kahlo", "Nelson Mandela", "Ada Lovelace"),
    *("Ludwig van Beethoven", "Cleopatra", "Pelé", "Agatha Christie", "Isaac Newton", "Miles Davis"),
    *("France", "Brazil", "South Korea", "Nigeria", "New Zealand", "Vienna", "San Francisco", "Cairo"),
    *("the Eiffel Tower", "Mount Everest", "the Amazon River", "Lake Victoria", "the Great Wall of China"),
    *("Toyota", "Microsoft", "Real Madrid", "Harvard University", "Hamlet", "Star Wars", "The Beatles"),
)


def probe_keys(lm: LanguageModel, layers: Sequence[int]) -> dict[int, Tensor]:
    """Return the inputs of MLP output projections at SUBJECTS' last tokens, (subjects, d_in), by layer."""
    names = {layer: lm.projection(layer) for layer in sorted(set(layers))}
    places = locate(lm, [(PROMPT, subject) for subject in SUBJECTS])
    cases = [0] * len(places)
    with torch.no_grad():
        found, _ = at_subjects(lm, places, EMPTY, cases, list(names.values()), stop=names[max(names)])
    return {layer: found["in", name] for layer, name in names.items()}
