"""Texts and labels of EasyEdit's port of UltraEdit (`rows: all`).

The port tokenises targets by themselves, with what the tokenizer puts in front, and pads them on the left to
the longest one of their mini-batch. All of this is counted in the loss, padding included: the last label is
read where the text's last token is predicted, the one before it a token earlier, and so on. The rows are
those of all tokens of a text, its last one too, whose gradient is zero. Mini-batches are in the order of the
requests.

The port pads texts on the left as well, without telling the model, so that positions of shorter ones are
shifted where they are absolute, and labels may fall on padding where a target is longer than another whole
text. Here each text stands by itself, and such labels are left out.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from aftershock.lm.gradients import Texts
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import Pair
from aftershock.prompts import following


def port_labels(lm: LanguageModel, targets: Sequence[str]) -> list[list[int]]:
    """Return the labels of a mini-batch's targets, all of one length."""
    rows = lm.tokenize([following("", target) for target in targets])["input_ids"]
    width = max(map(len, rows))
    return [[*[lm.pad_id] * (width - len(row)), *row] for row in rows]


def port_texts(
    lm: LanguageModel,
    pairs: Sequence[Pair],
    labels: Sequence[Sequence[int]],
    cases: Sequence[int],
    losses: Sequence[int],
) -> Texts:
    """Return the texts of `pairs`, all of whose tokens are read; `labels` count in the losses."""
    made = Texts.of(lm, pairs, cases, whole=True, losses=losses)
    n, seq = made.ids.shape
    tokens, counted = torch.zeros_like(made.ids), torch.zeros_like(made.ids, dtype=torch.bool)
    for row, (pair, wanted) in enumerate(zip(pairs, labels, strict=True)):
        end = len(pair.prompt) + len(pair.target) - 1  # the last token predicts nothing
        kept = wanted[max(0, len(wanted) - end) :]
        tokens[row, end - len(kept) : end] = torch.tensor(kept, device=lm.device)
        counted[row, end - len(kept) : end] = True
    places = torch.arange(seq, device=lm.device).expand(n, seq)
    return replace(made, read=places, tokens=tokens, valid=made.mask.bool(), counted=counted)
