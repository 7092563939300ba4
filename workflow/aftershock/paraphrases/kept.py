"""Answers written to disk before they are parsed, so that none is paid for twice or lost.

A request is all that decides an answer: address, model, messages, temperature, seed, longest answer. Its
answer is one file of `kg.cache`, whole or not there, with a checksum.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aftershock.kg.cache import Cache, Entry

log = logging.getLogger(__name__)

ATTEMPTS = 3  # at an answer that is no chat completion

Message = Mapping[str, str]


class AskingError(RuntimeError):
    """No answer could be had; the message says why and what to do."""


class Backend(Protocol):
    """Protocol of a back end that answers requests."""

    address: str

    def request(self, messages: Sequence[Message]) -> dict[str, Any]:
        """Everything that determines the answer, beside the address."""

    def send(self, request: Mapping[str, Any]) -> bytes:
        """The answer as it came, in the form that `envelope` gives; AskingError when there is none."""


@dataclass(frozen=True)
class Completion:
    """A model's completion, with what the service reports about it."""

    text: str
    model: str | None  # as the service calls it, with its version
    request_id: str | None
    finish: str | None  # why it ended: stop, length, content_filter
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass
class KeptAnswers:
    """A back end with a cache: each request is sent once, now and in all later runs."""

    backend: Backend
    folder: Path
    asked: int = 0
    cached: int = 0

    def ask(self, messages: Sequence[Message]) -> Completion:
        """The answer to `messages`; AskingError when the back end gives none that can be read."""
        request = self.backend.request(messages)
        cache = Cache(self.folder)
        entry = cache.entry(self.backend.address, json.dumps(request, sort_keys=True))
        with cache.lock(entry):
            completion = self._read(entry)
            if completion:
                self.cached += 1
                return completion
            for _ in range(ATTEMPTS):
                self.asked += 1
                entry.write(self.backend.send(request), rows=1)
                completion = self._read(entry)
                if completion:
                    return completion
        raise AskingError(
            f"{self.backend.address} answered {ATTEMPTS} times with something that is no chat completion; "
            f"the answers are kept beside {entry.path}. Check the base_url, which often ends in /v1"
        )

    def _read(self, entry: Entry) -> Completion | None:
        """The kept answer; one that cannot be read is set aside, since it may have been paid for."""
        body = entry.read()
        if body is None:
            return None
        try:
            return read_completion(body)
        except ValueError as error:
            number = len(list(entry.path.parent.glob(f"{entry.path.name}.unread*"))) + 1
            aside = entry.path.rename(entry.path.with_name(f"{entry.path.name}.unread{number}"))
            log.warning("%s: %s; it is set aside as %s", self.backend.address, error, aside.name)
            return None


def answers_folder(kg: str) -> Path:
    """Folder of answers about a graph's relations; no rule's output, so it outlives failed jobs."""
    return Path("results/kg") / kg / "answers"


def envelope(body: str, request_id: str | None) -> bytes:
    """An answer as kept: its body, whatever that is, and the id from a header."""
    return json.dumps({"request_id": request_id, "body": body}).encode()


def read_completion(kept: bytes) -> Completion:
    """The completion in an envelope; ValueError when its body is no chat completion."""
    try:
        outer = json.loads(kept)
        body = json.loads(outer["body"])
        choice = body["choices"][0]
        said, usage = choice["message"], body.get("usage") or {}
        text = said.get("content") or ""
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
        start = " ".join(kept[:100].decode(errors="replace").split())
        raise ValueError(f"an answer is no chat completion ({type(error).__name__}): {start!r}") from error
    if not isinstance(text, str):
        raise ValueError(f"an answer's content is {type(text).__name__}, not text")
    return Completion(
        text=text,
        model=_text(body.get("model")),
        request_id=_text(outer.get("request_id")) or _text(body.get("id")),
        finish=_text(choice.get("finish_reason")),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
