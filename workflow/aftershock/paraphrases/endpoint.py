"""Client of an OpenAI-compatible service over the `openai` library; the only module that sees a key.

The key is read from the environment when the first request has to be sent, and is cut out of whatever comes
back. Errors carry no text of the service's about a refused key, and no chained exceptions, which hold it.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import httpx2
import openai

from aftershock.paraphrases.kept import AskingError, Message, envelope

log = logging.getLogger(__name__)

LARGEST = 4 << 20  # largest answer in bytes; twenty sentences have a few thousand
NO_KEY = "none"  # sent to a service that wants no key: the library needs some value
HIDDEN = "[key]"


@dataclass(frozen=True)
class Patience:
    """Limits on the time and the attempts that one request may take."""

    total: float = 600.0  # seconds for all attempts and the waiting between them
    attempt: float = 180.0  # seconds for one
    attempts: int = 5  # failed ones; a request to wait does not count


class PassingError(Exception):
    """An attempt failed in a way that a further one may not."""

    def __init__(self, text: str, wait: float | None = None, throttled: bool = False) -> None:
        super().__init__(text)
        self.wait = wait  # seconds that the service asks for
        self.throttled = throttled


class Endpoint:
    """A model behind an OpenAI-compatible address."""

    def __init__(
        self,
        base_url: str,
        model: str,
        key: str | None = "OPENAI_API_KEY",
        temperature: float | None = 1.0,
        seed: int | None = 0,
        max_tokens: int | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        section: str = "paraphrases",
    ) -> None:
        """`key` is the name of an environment variable; None for a service that wants no key.

        What is None is not sent. Errors name the `section` of the configuration that the settings are from.
        """
        self.address = base_url.rstrip("/")
        self.model = model
        self.key_name = key
        self.sampling = {"temperature": temperature, "seed": seed, "max_tokens": max_tokens}
        self.patience = patience or Patience()
        self.sleep = sleep
        self.clock = clock
        self.section = section

    def request(self, messages: Sequence[Message]) -> dict[str, Any]:
        """The body of the request."""
        sampling = {name: value for name, value in self.sampling.items() if value is not None}
        return {"model": self.model, "messages": [dict(message) for message in messages], **sampling}

    def send(self, request: Mapping[str, Any]) -> bytes:
        """The complete answer, after as many attempts as `patience` allows; AskingError if all fail."""
        client, end, failed = self.client, self.clock() + self.patience.total, 0
        while True:
            try:
                return self._exchange(client, request, min(self.patience.attempt, end - self.clock()))
            except PassingError as error:
                problem = error
            failed += not problem.throttled
            asked = 2.0 ** max(failed, 1) if problem.wait is None else max(1.0, problem.wait)
            wait = asked * random.uniform(1.0, 1.25)
            if failed >= self.patience.attempts:
                raise AskingError(
                    f"{self.address} gave no answer in {failed} attempts: {problem}. Check that it is up, "
                    "then run again: answers so far are kept"
                )
            if self.clock() + wait > end:
                raise AskingError(
                    f"{self.address}: {problem}; waiting {wait:.0f} s more would exceed the "
                    f"{self.patience.total:g} s of {self.section}.patience. Run again later: answers so far "
                    "are kept"
                )
            log.warning("%s: %s; next attempt in %.1f s", self.address, problem, wait)
            self.sleep(wait)

    @cached_property
    def client(self) -> openai.OpenAI:
        """The library's client: retries and redirects are left to us."""
        return openai.OpenAI(
            api_key=self._key,
            base_url=self.address,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )

    @cached_property
    def _key(self) -> str:
        if self.key_name is None:
            return NO_KEY
        key = os.environ.get(self.key_name, "").strip()
        if not key:
            raise AskingError(
                f"{self.address} has to be asked, and the environment variable {self.key_name} holds no key: "
                f"export {self.key_name}=… and run again, or name another variable in {self.section}.key "
                "(null for a service that wants none)"
            )
        if not (key.isascii() and key.isprintable()):
            raise AskingError(f"the key in {self.key_name} cannot be sent; it has to be plain ASCII")
        return key

    def _exchange(self, client: openai.OpenAI, request: Mapping[str, Any], seconds: float) -> bytes:
        """The body of one attempt, read in pieces so that a slow stream cannot exceed `seconds`."""
        end = self.clock() + seconds
        asked = client.with_options(timeout=max(seconds, 0.001)).chat.completions.with_streaming_response
        try:
            with asked.create(**request) as response:
                body = b""
                for piece in response.iter_bytes():
                    body += piece
                    if self.clock() > end:
                        raise PassingError(f"no whole answer within {seconds:g} s")
                    if len(body) > LARGEST:
                        raise AskingError(f"{self.address} sends more than {LARGEST} bytes for one answer")
                request_id = response.headers.get("x-request-id")
        except openai.APIStatusError as error:
            problem: Exception = self._refused(error)
        except openai.APITimeoutError:
            problem = PassingError(f"no answer within {seconds:g} s")
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            problem = PassingError(self._clean(f"{type(cause).__name__}: {cause}"))
        else:
            text = body.decode("utf-8", errors="replace").replace(self._key, HIDDEN)
            return envelope(text, request_id and self._clean(request_id))
        raise problem from None  # the library's exceptions hold headers and bodies

    def _refused(self, error: openai.APIStatusError) -> Exception:
        """The exception for an answer with an error status."""
        status, headers = error.status_code, error.response.headers
        if status in (401, 403):
            return AskingError(
                f"{self.address} refuses the key in {self.key_name} ({status}): put a valid one, with access "
                f"to {self.model}, into that environment variable and run again"
                if self.key_name
                else f"{self.address} wants a key ({status}): name its variable in {self.section}.key"
            )
        said = self._clean(_message(error))
        if status == 429 and "insufficient_quota" in said:
            return AskingError(f"{self.address}: the account's quota is used up (429): {said}")
        if status == 429:
            return PassingError(f"too many requests (429): {said}", _retry_after(headers), throttled=True)
        if status in (408, 409, 425) or status >= 500:
            return PassingError(f"status {status}: {said}", _retry_after(headers))
        if 300 <= status < 400:
            return AskingError(f"{self.address} redirects ({status}): give its final address as base_url")
        return AskingError(
            f"{self.address} does not accept the request ({status}): {said}. Check model, temperature, seed "
            f"and max_tokens in {self.section}; null leaves one out"
        )

    def _clean(self, text: str) -> str:
        """Text from the service for a message: one line, shortened, without the key."""
        line = " ".join(text.replace(self._key, HIDDEN).split())
        return "".join(character if character.isprintable() else "?" for character in line)[:200]


def _message(error: openai.APIStatusError) -> str:
    """The service's own error message."""
    body = error.body if isinstance(error.body, dict) else {}
    parts = [body.get("code"), body.get("message")]
    return ", ".join(part for part in parts if isinstance(part, str)) or error.response.text or "no word"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a service asks to wait, given as a number or as a date."""
    said = headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
