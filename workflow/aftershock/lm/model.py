"""A causal language model with its tokenizer, loaded from a local folder."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from aftershock.lm.families import check_sizes, family_of, layer_number
from aftershock.lm.files.folders import fault_of_model, model_file
from aftershock.lm.fused import fuse
from aftershock.lm.masks import additive_mask
from aftershock.lm.outputs import UNREAD, OutputChange, Read
from aftershock.lm.products import lay_out
from aftershock.lm.texts.beginning import AUTO
from aftershock.lm.texts.reading import PromptFormat, SpecialTokens, TargetIds, TextReader
from aftershock.lm.texts.tokenizer_files import load_tokenizer

Precision = Literal["strict", "tf32", "bf16"]
DeviceMap = str | dict[str, int | str]
Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]
"""Forward hook: called with a module, its arguments and its output; returns the output to use."""
MAKERS = "rule fetch_model or train_lm"


def not_finite(model: nn.Module) -> list[str]:
    """Return the names of the parameters that hold NaN or an infinity, in the model's order.

    A sum shows them without a copy of the weights; where it overflows, the numbers are checked.
    """
    return [
        name
        for name, tensor in model.named_parameters()
        if not tensor.is_meta
        and not tensor.detach().sum(dtype=torch.float32).isfinite()
        and not tensor.detach().isfinite().all()
    ]


def _check_option(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} {value!r} is unknown; known: {', '.join(known)}")


def context_of(config: PretrainedConfig) -> int:
    """Return how many tokens a text may have.

    With LongRoPE no more than the model was first trained on: beyond, transformers turns the positions of all
    texts of a batch by other factors, so that a text's numbers would depend on those beside it.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return config.max_position_embeddings
    first = rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
    return min(first, config.max_position_embeddings)


class LanguageModel(TextReader):
    """A frozen model: only `edits.fold` writes its weights, for a while. Batches are padded on the right.

    `load` reads a folder, `wrap` takes a model that is loaded already; the class itself takes one over, whose
    modules it replaces by faster ones.

    >>> from aftershock import LanguageModel
    >>> LanguageModel.load(weights).n_layers
    3
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        target_ids: TargetIds = "text",
        precision: Precision = "strict",
        special_tokens: SpecialTokens = "characters",
        document_token: str = AUTO,
        prompt_format: PromptFormat = "plain",
    ) -> None:
        _check_option("target_ids", target_ids, get_args(TargetIds))
        _check_option("precision", precision, get_args(Precision))
        _check_option("special_tokens", special_tokens, get_args(SpecialTokens))
        _check_option("prompt_format", prompt_format, get_args(PromptFormat))
        if not isinstance(model, PreTrainedModel):
            raise ValueError(
                f"the model is a {type(model).__name__}, not a model of transformers; give a PEFT model as "
                "model.merge_and_unload() returns it"
            )
        if not tokenizer.is_fast:
            raise ValueError(
                f"tokenizer {tokenizer.name_or_path!r} is a slow one; a tokenizer.json is needed"
            )
        self.model = fuse(model.eval().requires_grad_(False))
        self.tokenizer = tokenizer
        self.target_ids = target_ids  # see lm/texts/tokens.py
        self.precision = precision  # of `reduced` passes
        self.special_tokens = special_tokens
        self.document_token = document_token
        self.prompt_format = prompt_format
        self.leading, self.frame  # noqa: B018 (a token or template that is missing is an error at once)
        self.family = family_of(model.config.model_type)
        check_sizes(self.family, model.config)
        self.device = model.device
        self.dtype = model.dtype
        self.n_layers: int = model.config.num_hidden_layers
        self.d_model: int = model.config.hidden_size
        self.context = context_of(model.config)
        pad, known = tokenizer.pad_token_id, len(model.get_input_embeddings().weight)
        self.pad_id: int = pad if pad is not None and 0 <= pad < known else 0  # any that has an embedding
        self.output_changes: list[OutputChange] = []  # of the deltas that are attached

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        target_ids: TargetIds = "text",
        precision: Precision = "strict",
        device_map: DeviceMap | None = None,
        special_tokens: SpecialTokens = "characters",
        document_token: str = AUTO,
        prompt_format: PromptFormat = "plain",
    ) -> "LanguageModel":
        """Load a folder in Hugging Face layout; ValueError when it is incomplete or not safetensors.

        `device_map` spreads a model larger than one GPU over several: "auto", or a device for each module, as
        transformers takes it; `device` is then that of the embeddings. It needs the package accelerate, and
        every weight on some device.
        """
        folder = Path(folder)
        if fault := fault_of_model(folder):
            raise ValueError(f"{folder} {fault}; if a run made it, delete it and run again ({MAKERS})")
        options = {"local_files_only": True, "trust_remote_code": False}
        if device_map is not None and find_spec("accelerate") is None:
            raise ValueError(
                "device_map needs the package accelerate: install it beside torch (pip install accelerate)"
            )
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            device_map=device_map,
            **options,
        )
        if found["missing_keys"] or found["mismatched_keys"]:
            wrong = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
            raise ValueError(
                f"{folder} lacks weights or has them in another shape than its config.json says: "
                f"{', '.join(wrong[:5])}; if a run made it, delete it and run again ({MAKERS})"
            )
        if broken := not_finite(model):
            raise ValueError(
                f"{folder} has weights that are not finite (NaN or infinite) in {len(broken)} tensors, "
                f"{broken[0]} first; the model is damaged or was stored in a format too narrow for it: fetch "
                "or train it anew, or take another revision"
            )
        tokenizer = load_tokenizer(folder)
        if device_map is None:
            model = model.to(device)
            lay_out(model)
        elif away := [name for name, tensor in model.named_parameters() if tensor.is_meta]:
            raise ValueError(
                f"device_map {device_map!r} leaves weights of {folder} on no GPU, {away[0]} first; "
                "editing reads them all: take more or larger GPUs, or leave device_map out"
            )
        try:
            return cls(model, tokenizer, target_ids, precision, special_tokens, document_token, prompt_format)
        except ValueError as error:
            raise ValueError(f"{model_file(folder)}: {error}") from error

    @classmethod
    def wrap(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **options: Any
    ) -> "LanguageModel":
        """Return a model around one that is loaded already, sharing its weights and changing nothing.

        `options` are those of the class, such as `prompt_format`.

        >>> from aftershock import LanguageModel
        >>> wrapped = LanguageModel.wrap(lm.model, lm.tokenizer)
        >>> wrapped.n_layers == lm.n_layers
        True
        """
        shared = {
            id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)  # with its version
            for parameter in model.parameters()
        }
        shared |= {id(buffer): buffer for buffer in model.buffers()}
        return cls(copy.deepcopy(model, shared), tokenizer, **options)

    def layer(self, number: int) -> str:
        """Name of a decoder layer."""
        return self.family.layer.format(number)

    def mlp(self, number: int) -> str:
        """Name of a layer's MLP."""
        return self.family.mlp.format(number)

    def projection(self, number: int) -> str:
        """Name of a layer's MLP output projection, the matrix that editors change."""
        return self.family.projection.format(number)

    def is_in_mlp(self, module: str, number: int) -> bool:
        """True of a matrix of a layer's MLP."""
        return module in (self.projection(number), *(name.format(number) for name in self.family.inputs))

    def attention_projection(self, number: int) -> str:
        """Name of a layer's attention output projection."""
        return self.family.attention_projection.format(number)

    def layer_of(self, module: str) -> int:
        """The number of the layer that a module belongs to; ValueError for one outside the layers."""
        number = layer_number(module)
        if number is None:
            raise ValueError(f"{module} is in no layer of the model; layers are called {self.family.layer}")
        return number

    def weight(self, module: str) -> Tensor:
        """A view of a projection's weight, (d_out, d_in)."""
        return self.family.weight(self.model.get_submodule(module))

    def bias(self, module: str) -> Tensor | None:
        """A projection's bias, (d_out,), or None."""
        return self.model.get_submodule(module).bias

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask of `rows`, both (rows, longest), padded on the right."""
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[self.pad_id] * (width - len(row))] for row in rows], device=self.device)
        length = torch.tensor([len(row) for row in rows], device=self.device)
        return ids, (torch.arange(width, device=self.device) < length[:, None]).long()

    def run(self, ids: Tensor, mask: Tensor | dict[str, Tensor] | None, **options: Any) -> Tensor:
        """Hidden states after the final norm, (batch, seq, d_model).

        `mask` is (batch, seq), or what `attention` makes. The former only marks padding on the right: as
        no token sees it, the model is spared a mask, and outputs there mean nothing.
        """
        mask = None if isinstance(mask, Tensor) and mask.ndim == 2 else mask
        if mask is not None:  # which some models would take their positions from
            options.setdefault("position_ids", torch.arange(ids.shape[1], device=ids.device)[None])
        made = self.model.base_model(input_ids=ids, attention_mask=mask, return_dict=True, **options)
        return made.last_hidden_state.to(self.device)

    @property
    def mlp_scale(self) -> float:
        """The factor of an MLP's output when it joins the residual stream."""
        name = self.family.mlp_scale
        return 1.0 if name is None else float(getattr(self.model.config, name))

    def joined(self, layer: int, written: Tensor) -> Tensor:
        """Return an MLP output as it joins the residual stream: scaled and normed."""
        if self.family.mlp_norm is None:
            return self.mlp_scale * written
        norm = self.model.get_submodule(self.family.mlp_norm.format(layer))
        return norm(written.to(norm.weight.device)).to(self.device)

    def normed(self, hidden: Tensor) -> Tensor:
        """Hidden states of an earlier layer after the final norm."""
        norm = self.model.get_submodule(self.family.norm)
        return norm(hidden.to(norm.weight.device)).to(self.device)

    def logits(self, hidden: Tensor, read: Callable[[], Read] | None = None) -> Tensor:
        """Next-token scores at hidden states after the final norm, which are only needed at some positions.

        Never in bfloat16, whose steps between large scores are wider than the differences that count. `read`
        says what text each of `hidden` (entries, d_model) ends, and is called where a delta changes outputs.
        """
        scores = self._head_scores(hidden)
        if self.output_changes:
            if read is None:
                raise ValueError(UNREAD)
            texts = read()
            for change in self.output_changes:
                scores = change(scores, texts)
        return scores

    def _head_scores(self, hidden: Tensor) -> Tensor:
        head = self.model.get_output_embeddings()
        with self.reduced("tf32"):
            logits = head(hidden.to(head.weight.device)).to(self.device)
        config = self.model.config
        if (factor := getattr(config, "logit_scale", None)) is not None:
            logits = logits * factor
        if (divisor := getattr(config, "logits_scaling", None)) is not None:
            logits = logits / divisor
        cap = getattr(config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @contextmanager
    def reduced(self, precision: Precision | None = None) -> Iterator[None]:
        """Context manager: products have `precision`, by default the model's; a strict model's are exact.

        "strict": as the weights are. "tf32": float32 rounded to 10 bits of mantissa, on devices that have it.
        "bf16": frozen weights and what they are multiplied with in bfloat16, the residual stream in float32.
        """
        if self.precision == "strict":
            yield
            return
        precision = precision or self.precision
        matmul = torch.backends.cuda.matmul
        before, matmul.fp32_precision = matmul.fp32_precision, "ieee" if precision == "strict" else "tf32"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
                yield
        finally:
            matmul.fp32_precision = before

    def attention(self, allowed: Tensor, queries: Tensor, keys: Tensor) -> Tensor | dict[str, Tensor]:
        """The additive mask of a boolean one, (batch, queries, keys) -> (batch, 1, queries, keys).

        `queries` and `keys` are their places in their texts, (batch, queries) and (batch, keys): a layer with
        a sliding window sees no key further back. One mask per kind of layer, if there are several, or both
        in one, (batch, 2, queries, keys).
        """
        return additive_mask(self.model.config, self.family, self.dtype, allowed, queries, keys)
