"""Models in one GGUF file, as llama.cpp runs them: read by transformers and written once in float32."""

from dataclasses import dataclass
from pathlib import Path

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from aftershock.lm.families import list_families


@dataclass(frozen=True)
class Header:
    """The header of a GGUF file."""

    architecture: str
    quantisation: str
    """The type that most of its weights are stored as, such as Q4_1."""
    has_tokenizer: bool


def read_header(path: Path) -> Header:
    """The header of a file whose model can be used.

    ValueError for a file that is no GGUF or not whole, that holds no tokenizer, or whose architecture either
    transformers or this project does not know.
    """
    try:
        reader = gguf.GGUFReader(path)
        fields = {
            name: field.contents() for name, field in reader.fields.items() if name.startswith("general.")
        }
        stored = fields.get("general.file_type")
        kinds = [tensor.tensor_type.name for tensor in reader.tensors]
        has_tokenizer = {"tokenizer.ggml.model", "tokenizer.ggml.tokens"} <= set(reader.fields)
    except OSError:
        raise
    except Exception as error:  # the reader trusts every number in the file
        said = str(error).strip().partition("\n")[0][:200]
        raise ValueError(
            f"{path.name} is no whole GGUF file ({type(error).__name__}: {said}): fetch it again"
        ) from error
    found = Header(str(fields.get("general.architecture")), _quantisation(stored, kinds), has_tokenizer)
    known = known_architectures()
    if found.architecture not in known:
        raise ValueError(
            f"{path.name} has the architecture {found.architecture!r}; those that can be read from GGUF are "
            f"{', '.join(known)}. Take a model of one of these, or its repository with safetensors"
        )
    if not found.has_tokenizer:
        raise ValueError(
            f"{path.name} holds no tokenizer (tokenizer.ggml.tokens); take a file that has one, or the "
            "model's repository with safetensors"
        )
    return found


def known_architectures() -> list[str]:
    """The architectures of GGUF that both transformers and this project know, sorted."""
    return sorted(
        name for name in GGUF_SUPPORTED_ARCHITECTURES if {name, f"{name}_text"} & set(list_families())
    )


def model_type_of_gguf(path: Path) -> str:
    """The model_type that transformers gives the file's model."""
    return AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True).model_type


def dequantise(path: Path, into: Path) -> None:
    """Write the file's model to the folder `into`: float32 safetensors, configuration and tokenizer.json.

    The weights are those that transformers makes of the file, bit for bit.
    """
    folder, name = path.parent, path.name
    read = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, local_files_only=True
    )
    config = read.config
    if hasattr(config, "quantization_config"):  # transformers writes no model that says it is quantised
        del config.quantization_config
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(into)
    AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True).save_pretrained(into)


def _quantisation(stored: object, kinds: list[str]) -> str:
    """The name of a file type, without saying that it holds for most weights only."""
    if stored in {int(kind) for kind in gguf.LlamaFileType}:
        return gguf.LlamaFileType(stored).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    return max(set(kinds), key=kinds.count) if kinds else "unknown"
