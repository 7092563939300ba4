"""Small random models as GGUF files."""

from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize

WORDS = ("The", "the", "capital", "of", "is", "in", "Aland", "Bern", "Cyra", "Dorn", "city", "lies", "a")
WIDTH, INNER, HEADS, KEY_VALUE, LAYERS = 64, 96, 4, 2, 2


def write_gguf(
    path: Path, architecture: str = "llama", stored: str = "Q8_0", tokenizer: bool = True, seed: int = 0
) -> Path:
    """A model whose matrices are stored as `stored`, and whose tokens are characters and a few words."""
    writer = gguf.GGUFWriter(path, architecture)
    kind = gguf.GGMLQuantizationType[stored]
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{stored}"])
    _add_sizes(writer)
    tokens, merges = _tokens()
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(tokens) - 1))
        writer.add_token_merges(merges)
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
        writer.add_unk_token_id(0)
    for name, shape in _shapes(len(tokens)).items():
        values = np.random.default_rng([seed, len(name), shape[0]]).normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, 1 + values / 10)
        else:
            writer.add_tensor(name, quantize(values / 8, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_sizes(writer: gguf.GGUFWriter) -> None:
    sizes = {"block_count": LAYERS, "context_length": 128, "embedding_length": WIDTH, "head_count": HEADS}
    sizes |= {"feed_forward_length": INNER, "head_count_kv": KEY_VALUE, "rope_freq_base": 10_000.0}
    sizes |= {"rope_dimension_count": WIDTH // HEADS, "layer_norm_rms_eps": 1e-5}
    for name, size in (sizes | {"vocab_size": len(_tokens()[0])}).items():
        getattr(writer, f"add_{name}")(size)


def _tokens() -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level tokenizer: visible characters, and the words built of them."""
    tokens = ["<|endoftext|>", *(chr(code) for code in range(33, 127)), "Ġ"]
    merges: list[str] = []
    for word in (f"Ġ{word}" for word in WORDS):
        for size in range(2, len(word) + 1):
            pair = f"{word[: size - 1]} {word[size - 1]}"
            if word[:size] not in tokens:
                tokens.append(word[:size])
                merges.append(pair)
    return tokens, merges


def _shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    narrow = WIDTH // HEADS * KEY_VALUE
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, WIDTH),
        "output_norm.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        block = {"attn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH)}
        block |= {"attn_k": (narrow, WIDTH), "attn_v": (narrow, WIDTH), "ffn_norm": (WIDTH,)}
        block |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    return shapes
