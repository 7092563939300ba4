"""Nothing on a CPU is computed in bfloat16 or float16 by default: most CPUs only emulate them."""

import numpy as np
import pytest
import torch

from aftershock.editors.mend import MendTraining
from aftershock.editors.mend.training import Batch, new_optimizer, train_step
from aftershock.editors.methods import find_methods
from aftershock.lm.generation import continue_greedily
from aftershock.lm.gradients import Texts
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.lm.networks.label_encoder import ModelEncoder
from aftershock.lm.pretraining.fitting import fit, new_model
from aftershock.lm.pretraining.rows import Rows
from aftershock.lm.pretraining.settings import TrainSettings
from aftershock.lm.scoring import score
from aftershock.lm.statistics.moments import second_moments
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.requests import Query
from editing import make, singles
from narrow import NarrowKernelError, NoNarrowKernels
from tiers import of_methods
from tiny import CITIES, NAMES, TEXTS, requests, tiny

SIZES = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 32, "vocab_size": 420}


def queries(n: int = 3) -> list[Query]:
    return [Query(request.text, request.target_new) for request in requests(n)]


def train_once() -> None:
    tokenizer = tiny().tokenizer
    rows = Rows(np.arange(48).reshape(3, 16), np.ones((3, 16), dtype=np.float32))
    fit(new_model(SIZES, tokenizer, 0), rows, TrainSettings(batch_rows=1, row_tokens=16))


def test_the_guard_notices_what_emulates_bfloat16():
    matrix = torch.nn.Parameter(torch.ones(2, 3))
    matrix.grad = torch.ones(2, 3)
    with pytest.raises(NarrowKernelError, match="bfloat16 on a CPU"), NoNarrowKernels():
        torch.optim.Muon([matrix]).step()
    with pytest.raises(NarrowKernelError), NoNarrowKernels(), torch.autocast("cpu"):
        torch.ones(2, 3) @ torch.ones(3, 2)
    asked = LanguageModel(tiny(dtype=torch.float32).model, tiny().tokenizer, precision="bf16")
    with pytest.raises(NarrowKernelError), NoNarrowKernels():
        score(asked, queries())


def test_training_a_model():
    with NoNarrowKernels():
        train_once()


def test_moments_scores_continuations_and_similarities():
    lm = tiny(dtype=torch.float32)
    with NoNarrowKernels():
        second_moments(lm, TEXTS[:4], [0, 1])
        score(lm, queries())
        continue_greedily(lm, [query.prompt for query in queries()], 3)
        ModelEncoder(lm).within(CITIES)(CITIES[:2])


@pytest.mark.parametrize("method", of_methods(sorted(find_methods())))
def test_edits(method):
    lm = tiny(dtype=torch.float32)
    editor = make(method, lm)
    with NoNarrowKernels():
        score(lm, queries(1), editor.edit(singles(2)).delta)


def test_training_a_hypernetwork():
    lm = tiny(dtype=torch.float32)
    settings = MendTraining(rank=4, accumulate=1)
    net = Hypernetwork.of(lm, [1], rank=4)
    pairs = encode_pairs(lm, [(f"{name} lives in", city) for name, city in zip(NAMES, CITIES, strict=True)])
    texts = [Texts.of(lm, [pair], [0]) for pair in pairs[:3]]
    with NoNarrowKernels():
        train_step(lm, net, Batch(1, *texts), settings, new_optimizer(net, settings), 0)


def test_a_checkpoint_in_bfloat16_is_computed_in_float32(tmp_path):
    lm = tiny(dtype=torch.float32)
    lm.model.to(torch.bfloat16).save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    loaded = LanguageModel.load(tmp_path)
    assert loaded.dtype == torch.float32
    with NoNarrowKernels():
        score(loaded, queries())
