"""Small models in the files of a hub's repository."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from aftershock.lm.model import LanguageModel
from tiny import TEXTS, save, tiny


def saved(folder: Path, **options) -> LanguageModel:
    """A small random model, written to `folder` as safetensors with its tokenizer."""
    save(lm := tiny(dtype=torch.float32), folder, **options)
    return lm


def saved_as_bin(folder: Path, shards: int = 1, **options) -> LanguageModel:
    """The same in torch's format, the head sharing memory with the embeddings, in one or several files."""
    lm = saved(folder)
    (folder / "model.safetensors").unlink()
    state = lm.model.state_dict()
    assert state["lm_head.weight"].data_ptr() == state["transformer.wte.weight"].data_ptr()
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin", **options)
        return lm
    names, where = sorted(state), {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin"
        mine = names[number::shards]
        torch.save({name: state[name].clone() for name in mine}, folder / file)
        where |= dict.fromkeys(mine, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    return lm


def tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def same(folder: Path, lm: LanguageModel, front: str = "") -> None:
    """See that `folder` holds `lm`: weights to the bit, and its tokenizer (with `front` before texts)."""
    found = LanguageModel.load(folder)
    for name, tensor in lm.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor), name
    assert found.encode([front + text for text in TEXTS[:30]]) == lm.encode(TEXTS[:30])
