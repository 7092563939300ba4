"""Chat templates in the styles of four families, each with a tokenizer that has its special tokens."""

import copy
from functools import cache

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from tokenizers_here import tokenizer_of

CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}<|turn|>"
    "{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
STYLES = {
    "ChatML": (CHATML, "gpt2", ["<|im_start|>", "<|im_end|>"]),
    "Llama 3": (LLAMA, "llama3", ["<|head|>", "<|/head|>", "<|turn|>"]),
    "Gemma": (GEMMA, "gemma", ["<start_of_turn>", "<end_of_turn>"]),
    "Mistral": (MISTRAL, "llama2", []),
    "Mistral with tokens": (MISTRAL, "metaspace", ["[INST]", "[/INST]"]),
}
"""Template, type of tokenizer, and special tokens."""


@cache
def chat_tokenizer(style: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a style, with its template."""
    template, kind, tokens = STYLES[style]
    tokenizer = copy.deepcopy(tokenizer_of(kind))
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    tokenizer.chat_template = template
    return tokenizer


def rendered(style: str, prompt: str, answer: str | None = None) -> str:
    """Return a message as transformers renders it, ready for an answer or with one."""
    messages = [{"role": "user", "content": prompt}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return chat_tokenizer(style).apply_chat_template(
        messages, tokenize=False, add_generation_prompt=answer is None
    )
