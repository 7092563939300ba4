"""A local model as a back end: its answers have the form of a service's and are kept the same way."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aftershock.paraphrases.kept import Message, envelope


class Said(Protocol):
    """An answer of a local model."""

    text: str
    ended: bool
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Local:
    """A model of resources/models/, identified by its weights."""

    model: str
    weights: str  # their sha256
    reply: Callable[..., Said]
    """Called with messages, max_tokens, temperature and seed."""
    temperature: float | None = 1.0
    seed: int | None = 0
    max_tokens: int | None = 1024

    @property
    def address(self) -> str:
        """Identifier in place of a service's address."""
        return f"local:{self.weights}"

    def request(self, messages: Sequence[Message]) -> dict[str, Any]:
        """Everything that determines the answer; a setting that is None has its default."""
        return {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "max_tokens": 1024 if self.max_tokens is None else self.max_tokens,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "seed": self.seed or 0,
        }

    def send(self, request: Mapping[str, Any]) -> bytes:
        """The answer as a chat completion."""
        asked = dict(request)
        model = asked.pop("model")
        said = self.reply(**asked)
        choice = {
            "message": {"content": said.text},
            "finish_reason": "stop" if said.ended else "length",
        }
        usage = {"prompt_tokens": said.prompt_tokens, "completion_tokens": said.completion_tokens}
        name = f"{model}@{self.weights[:12]}"
        return envelope(json.dumps({"model": name, "choices": [choice], "usage": usage}), None)
