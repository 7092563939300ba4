"""A causal language model with its tokenizer, loaded from a local folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BatchEncoding, PreTrainedModel, PreTrainedTokenizerFast

from aftershock.lm.families import family_of, layer_number
from aftershock.lm.folders import fault_of_model
from aftershock.lm.fused import fuse, head_product
from aftershock.lm.tokenizer_files import load_tokenizer
from aftershock.prompts import bare, following, shortened

TargetIds = Literal["text", "released"]
SpecialTokens = Literal["characters", "tokens"]
Precision = Literal["strict", "tf32", "bf16"]
DeviceMap = str | dict[str, int | str]
Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]
"""Called with a module, its arguments and its output; what it returns takes the output's place."""
TOO_LONG = (
    "leave the entity out with a row of resources/screen.tsv, give it a shorter label in the graph, or take "
    "a model with a longer context"
)
MAKERS = "rule fetch_model or train_lm"


def not_finite(model: nn.Module) -> list[str]:
    """Return the names of the parameters that hold NaN or an infinity, in the model's order.

    A sum tells of them without a copy of the weights; where it overflows, the numbers are looked at.
    """
    return [
        name
        for name, tensor in model.named_parameters()
        if not tensor.is_meta
        and not tensor.detach().sum(dtype=torch.float32).isfinite()
        and not tensor.detach().isfinite().all()
    ]


class LanguageModel:
    """A frozen model: only `edits.fold` writes its weights, for a while. Batches are padded on the right.

    `special_tokens` says how a text that spells a special token is read: as its characters, since labels and
    documents are data, or as that token, as the papers' released code does.
    """

    special_tokens: SpecialTokens = "characters"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        target_ids: TargetIds = "text",
        precision: Precision = "strict",
        special_tokens: SpecialTokens = "characters",
    ) -> None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"tokenizer {tokenizer.name_or_path!r} is a slow one; a tokenizer.json is needed"
            )
        self.model = fuse(model.eval().requires_grad_(False))
        self.tokenizer = tokenizer
        self.target_ids = target_ids  # see lm/tokens.py
        self.precision = precision  # of `reduced` passes
        self.special_tokens = special_tokens
        self.family = family_of(model.config.model_type)
        self.device = model.device
        self.dtype = model.dtype
        self.n_layers: int = model.config.num_hidden_layers
        self.d_model: int = model.config.hidden_size
        self.context: int = model.config.max_position_embeddings
        self.pad_id: int = tokenizer.pad_token_id or 0  # any id will do, since padding is masked

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
    ) -> "LanguageModel":
        """Load a folder in Hugging Face layout; ValueError when it is incomplete or not safetensors.

        `device_map` spreads a model larger than one GPU over several: "auto", or a device for each module, as
        transformers takes it; `device` is then that of the embeddings. It needs the package accelerate, and
        every weight on some device.
        """
        folder = Path(folder)
        if fault := fault_of_model(folder):
            raise ValueError(f"{folder} {fault}; delete it and run again: {MAKERS} makes it")
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
                f"{', '.join(wrong[:5])}; delete it and run again: {MAKERS} makes it"
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
        elif away := [name for name, tensor in model.named_parameters() if tensor.is_meta]:
            raise ValueError(
                f"device_map {device_map!r} leaves weights of {folder} on no GPU, {away[0]} first; "
                "editing reads them all: take more or larger GPUs, or leave device_map out"
            )
        return cls(model, tokenizer, target_ids, precision, special_tokens)

    def layer(self, number: int) -> str:
        """Name of a decoder layer."""
        return self.family.layer.format(number)

    def mlp(self, number: int) -> str:
        """Name of a layer's MLP."""
        return self.family.mlp.format(number)

    def projection(self, number: int) -> str:
        """Name of a layer's MLP output projection, the matrix that editors change."""
        return self.family.projection.format(number)

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

    @cached_property
    def n_behind(self) -> int:
        """How many tokens the tokenizer puts behind every text: an end-of-text token, with some."""
        special = self.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        return special[::-1].index(0)

    def tokenize(self, texts: Sequence[str], **options: bool) -> BatchEncoding:
        """Return the tokenizer's encoding of data: labels, prompts with them, and documents."""
        as_characters = self.special_tokens == "characters"
        return self.tokenizer([bare(text) for text in texts], split_special_tokens=as_characters, **options)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with what the tokenizer puts in front and without what it puts behind."""
        rows = self.tokenize(texts)["input_ids"] if texts else []
        return [row[: len(row) - self.n_behind] for row in rows]

    def encode_targets(self, targets: Sequence[str]) -> list[list[int]]:
        """Token ids of each target alone, after one space: as the released protocol appends it."""
        return self.encode_alone([following("", target) for target in targets])

    def encode_alone(self, targets: Sequence[str]) -> list[list[int]]:
        """Token ids of each target alone, as it follows its prompt; ValueError when one has none."""
        ids = self.tokenize(targets, add_special_tokens=False)["input_ids"] if targets else []
        for target, row in zip(targets, ids, strict=True):
            if not target.strip() or not row:
                raise ValueError(f"target {target!r} has no tokens; a target needs at least one")
        return ids

    def check_length(self, ids: Sequence[int], text: str) -> None:
        """Raise ValueError when `ids`, the tokens of `text`, do not fit the model."""
        if len(ids) > self.context:
            raise ValueError(
                f"{shortened(text)!r} has {len(ids)} tokens, more than the model's context of "
                f"{self.context}; {TOO_LONG}"
            )

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask of `rows`, both (rows, longest), padded on the right."""
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[self.pad_id] * (width - len(row))] for row in rows], device=self.device)
        length = torch.tensor([len(row) for row in rows], device=self.device)
        return ids, (torch.arange(width, device=self.device) < length[:, None]).long()

    def run(self, ids: Tensor, mask: Tensor | dict[str, Tensor] | None, **options: Any) -> Tensor:
        """Hidden states after the final norm, (batch, seq, d_model).

        `mask` is (batch, seq), or what `attention` makes. The former only tells of padding on the right: as
        no token sees it, the model is spared a mask, and what it puts out there means nothing.
        """
        mask = None if isinstance(mask, Tensor) and mask.ndim == 2 else mask
        made = self.model.base_model(input_ids=ids, attention_mask=mask, **options)
        return made.last_hidden_state.to(self.device)

    def normed(self, hidden: Tensor) -> Tensor:
        """Hidden states of an earlier layer after the final norm."""
        norm = self.model.get_submodule(self.family.norm)
        return norm(hidden.to(norm.weight.device)).to(self.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token scores at hidden states after the final norm: apply it only where they are needed.

        Never in bfloat16, whose steps between large scores are wider than the differences that count.
        """
        head = self.model.get_output_embeddings()
        with self.reduced("tf32"):
            logits = head_product(head, hidden.to(head.weight.device)).to(self.device)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @contextmanager
    def reduced(self, precision: Precision | None = None) -> Iterator[None]:
        """Inside, products are as exact as `precision`, by default the model's; a strict model's always are.

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
        a sliding window sees no key further back than that. One mask per kind of layer, if there are several.
        """
        config, masks = self.model.config, {}
        window = getattr(config, "sliding_window", None)
        kinds = getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"]
        for kind in dict.fromkeys(kinds):
            seen = allowed
            if kind == "sliding_attention":
                seen = allowed & (queries[:, :, None] - keys[:, None, :] < window)
            mask = torch.zeros(allowed.shape, dtype=self.dtype, device=self.device)
            masks[kind] = mask.masked_fill_(~seen, torch.finfo(self.dtype).min)[:, None]
        return masks if len(masks) > 1 else masks[kind]
