"""Instructions about the form of an answer, as IFEval has them, checked by lm-evaluation-harness's code."""

import json
from functools import cache
from typing import Any


def followed(text: str, asked: str) -> list[bool]:
    """Return for each instruction if a text follows it; an empty text follows none.

    `asked` is a JSON object with IFEval's fields `prompt`, `instruction_id_list` and `kwargs`.
    """
    given = json.loads(asked)
    checks = zip(given["instruction_id_list"], given["kwargs"], strict=True)
    return [_follows(text, given["prompt"], name, options) for name, options in checks]


def _follows(text: str, prompt: str, name: str, options: dict[str, Any]) -> bool:
    if name not in _registry():
        raise ValueError(f"unknown instruction {name!r}; update lm-evaluation-harness")
    instruction = _registry()[name](name)
    instruction.build_description(**{key: value for key, value in options.items() if value})
    if "prompt" in (instruction.get_instruction_args() or {}):
        instruction.build_description(prompt=prompt)
    return bool(text.strip() and instruction.check_following(text))


@cache
def _registry() -> dict[str, Any]:
    try:
        from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT
    except ImportError as error:
        raise ValueError(
            "the metrics of instructions need lm-evaluation-harness with what it calls `ifeval`: "
            f"pip install 'lm_eval[ifeval]' ({error})"
        ) from error
    return INSTRUCTION_DICT
