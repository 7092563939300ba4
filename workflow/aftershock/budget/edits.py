"""Work, memory and log of an edit, by one formula for all methods.

A request is read in its contexts, once up to the lowest edited layer, then forth and back above it as often
as the method says (`Method.passes`). A method that changes layers in turn optimises a value at the highest of
them, which takes the tokens from the subject on, and looks at its keys once for each layer.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from aftershock.budget.devices import Device
from aftershock.budget.work import AFTER, DOUBLE, FLOAT, PROMPT, TARGET, Sizes, Work, run
from aftershock.editors.contract import Method, layers_of

ADAM_BYTES = 16 * FLOAT  # read or written in a step for each trained weight, with what Adam keeps
PADDED = 1.2  # ratio of padded to real tokens in a batch of different texts
BATCH_TOKENS = 1024  # that a CPU processes at a time
LABELS = 3.0  # requests of a case whose values share a batch, where they are labels of one fact
ENTRY_VECTORS = 6  # as wide as the model, in an entry beside its weights
TOKEN_BYTES = 4


@dataclass(frozen=True)
class Editing:
    """Cases, each with some requests, that a method edits in one batch.

    network: weights of the hypernetworks of all edited layers, if any. dense: regularisers make whole
    matrices of every change.
    """

    method: Method
    settings: Any
    sizes: Sizes
    device: Device
    network: float = 0.0
    dense: bool = False
    cases: float = 1.0
    requests: float = 1.0

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The edited layers."""
        return layers_of(self.settings)

    @property
    def before(self) -> float:
        """Tokens of the statements and examples that stand before a prompt after an edit."""
        if not hasattr(self.settings, "statement"):
            return 0.0
        facts = min(self.requests, getattr(self.settings, "nearest", self.requests))
        return (facts + 2 * self.settings.examples) * (PROMPT + TARGET + 1)

    @property
    def edited(self) -> int:
        """Weights of the edited matrices: of each layer an MLP's last, or all of it."""
        whole = getattr(self.settings, "parameters", None) == "layer"
        return len(self.layers) * (self.sizes.layer if whole else self.sizes.matrix)

    @property
    def trained(self) -> int:
        """Weights of a case's own that are trained."""
        return self.edited * (self.method.change == "matrices")

    @property
    def change_bytes(self) -> float:
        """Bytes of a case's change where it is whole matrices, and 0 where it is small."""
        return FLOAT * (self.edited if self.dense else self.trained)

    @property
    def case_bytes(self) -> float:
        """Upper bound of the bytes that a case needs: what a backward pass keeps, and weights of its own."""
        together = LABELS if self._in_turn else getattr(self.settings, "batch_size", self.requests)
        rows = self.requests * TARGET * (self.sizes.width + self.sizes.inner) * len(self.layers)
        own = FLOAT * (4 * self.trained + self.network / max(1, len(self.layers))) + 2 * DOUBLE * rows
        return min(self.requests, together) * self._request_bytes + own

    def work(self) -> Work:
        """The work of one batch."""
        s, sizes, layers, method = self.settings, self.sizes, self.layers, self.method
        if inner := getattr(s, "edited_by", None):  # of a method that wraps another
            return replace(self, method=s.method.method, settings=inner).work() + self._look()
        if self._in_turn and len(layers) == 1 and self.requests > 1:  # which come one after the other
            return replace(self, requests=1.0).work() * self.requests
        requests = self.cases * self.requests
        texts = requests * self._texts * (PADDED if requests > 1 else 1.0)
        tokens, width, first = texts * self._read, self._width, self._first
        kept = requests * self._request_bytes + 4 * self.trained * self.cases * FLOAT
        batches = max(self.device.batches(sizes, kept, tokens, BATCH_TOKENS), self.cases * method.alone)
        step = run(sizes, batches, tokens, sizes.layers - first, width, texts * TARGET, True, True)
        step += Work(6 * tokens * self.trained, bytes=self.cases * self.trained * ADAM_BYTES)
        passes = method.passes(s) if method.passes else float(getattr(s, "steps", 1))
        below = sizes.layers if self._in_turn else first
        found = run(sizes, batches, texts * width, below, width) + step * passes
        found += Work(2 * requests * self._read * self.network, bytes=batches * self.network * FLOAT)
        if self._in_turn:
            found += self._look() * (len(layers) - 1)
        if "moments" in method.needs(s):  # of which the factors are solved with
            square = sizes.inner**2 * len(layers)
            found += Work(exact=2 * requests * square, bytes=2 * DOUBLE * square)
        if method.exact_flops:
            found += Work(exact=self.cases * method.exact_flops(s, sizes))
        return found

    def log_bytes(self, edits: int, checkpoints: int) -> float:
        """Bytes of a sequence's log: factors of each edit, or whole matrices at each checkpoint."""
        if self.change_bytes:
            return checkpoints * self.change_bytes
        if self.method.change == "texts":
            return edits * PROMPT * TOKEN_BYTES
        if self.method.change == "entries":  # all that there are, at each checkpoint
            return float(checkpoints * edits * ENTRY_VECTORS * self.sizes.width * FLOAT)
        rank = getattr(self.settings, "rank", 1 if self._in_turn else PROMPT + TARGET)
        return float(edits * max(1, len(self.layers)) * rank * (self.sizes.width + self.sizes.inner) * FLOAT)

    @property
    def _in_turn(self) -> bool:
        """True if a value is optimised, for layers that are changed in turn."""
        return self.method.layer_loop

    @property
    def _first(self) -> int:
        """The first layer that is run forth and back."""
        return max(self.layers) + 1 if self._in_turn else min(self.layers, default=0)

    @cached_property
    def _contexts(self) -> list[float]:
        """Tokens before the prompt in each context that it is read in."""
        openings = max(1, len(getattr(self.settings, "context_openings", ())))
        lengths = getattr(self.settings, "context_lengths", ())
        return [self.before, *(n + 1.0 for n, count in lengths for _ in range(count * openings))]

    @property
    def _texts(self) -> int:
        """Texts of a request: its contexts, and with a value one about its subject."""
        return len(self._contexts) + self._in_turn

    @property
    def _width(self) -> float:
        """Tokens of the longest text, but for the last, which nothing follows."""
        return max(self._contexts) + PROMPT + TARGET - 1

    @property
    def _read(self) -> float:
        """Tokens of a text that each pass reads."""
        return AFTER + TARGET if self._in_turn else self._width

    @property
    def _request_bytes(self) -> float:
        """Bytes of a request's texts in a backward pass: of those not read, only keys and values."""
        above, unread = max(1, self.sizes.layers - self._first), self._width - self._read
        text = (
            self._read * self.sizes.token_bytes(above, self._width)
            + 4 * TARGET * self.sizes.vocabulary * FLOAT
        )
        return self._texts * (text + 2 * FLOAT * self.sizes.width * above * unread)

    def _look(self) -> Work:
        """A pass up to the highest edited layer."""
        tokens = self.cases * self.requests * len(self._contexts) * self._width
        return run(self.sizes, 1, tokens, max(self.layers) + 1, self._width)
