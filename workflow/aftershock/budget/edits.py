"""Work, memory and log of an edit, by one formula for all methods.

A request is read in its contexts, once up to the lowest edited layer, then forth and back above it as often
as the method says (`Method.passes`). A method that changes layers in turn optimises a value at the highest of
them, which takes the tokens from the subject on, and looks at its keys once for each layer.
"""

from dataclasses import dataclass, replace
from typing import Any

from aftershock.budget.work import FROZEN, PROMPT, TARGET, Work, run
from aftershock.config.sizes import DOUBLE, FLOAT, Sizes
from aftershock.editors.contract import Method, layers_of

AFTER = 4.0  # tokens of a prompt after its subject
PADDED = 1.2  # ratio of padded to real tokens in a batch of different texts
ADAM_BYTES = 16 * FLOAT  # read or written in a step for each trained weight, with what Adam keeps
ENTRY = 6  # vectors of an entry of a codebook, or of a text
TOGETHER = 3.0  # requests of a case at most whose texts are in memory at a time


@dataclass(frozen=True)
class Editing:
    """Cases, each with some requests, that a method edits in one batch.

    dense: regularisers make changes whole matrices.
    """

    method: Method
    settings: Any
    sizes: Sizes
    dense: bool = False
    cases: float = 1.0
    requests: float = 1.0

    @property
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
    def change_bytes(self) -> float:
        """Bytes of a case's change where it is whole matrices, and 0 where it is small."""
        matrices = self.dense or self.method.change == "matrices"
        whole = getattr(self.settings, "parameters", None) == "layer"
        return FLOAT * matrices * len(self.layers) * (self.sizes.layer if whole else self.sizes.matrix)

    @property
    def case_bytes(self) -> float:
        """Upper bound of the bytes that a case needs: what a backward pass keeps, and weights of its own."""
        sizes, tokens = self.sizes, len(self._texts) * self._read
        kept = tokens * (sizes.layers - self._first or 1) * sizes.token_bytes
        kept += 4 * len(self._texts) * TARGET * sizes.vocabulary * FLOAT
        rows = 2 * DOUBLE * self.requests * TARGET * len(self.layers) * (sizes.width + sizes.inner)
        return min(self.requests, TOGETHER) * kept + rows + 4 * self.change_bytes

    def work(self) -> Work:
        """Return the work of one batch."""
        s, sizes, method, n = self.settings, self.sizes, self.method, len(self.layers)
        texts, longest = self.cases * self.requests * len(self._texts), max(self._texts)
        look = run(sizes, texts * longest, layers=max(self.layers, default=-1) + 1)
        if inner := getattr(s, "edited_by", None):  # of a method that wraps another
            return replace(self, method=s.method.method, settings=inner).work() + look
        tokens, own = PADDED * texts * self._read, (method.change == "matrices") * self.change_bytes / FLOAT
        batches = max(self.cases * method.alone, self.requests if method.layer_loop and n == 1 else 1.0)
        step = run(sizes, tokens, texts * TARGET, sizes.layers - self._first, FROZEN, batches)
        step += Work(6 * tokens * own, bytes=self.cases * own * ADAM_BYTES)
        found = step * (method.passes(s) if method.passes else getattr(s, "steps", 1))
        found += run(
            sizes, texts * longest, layers=None if method.layer_loop else self._first, batches=batches
        )
        if method.exact_flops:
            found += Work(exact=self.cases * method.exact_flops(s, sizes))
        return found + look * (method.layer_loop * (n - 1))

    def log_bytes(self, edits: float, checkpoints: int) -> float:
        """Bytes of a sequence's log: whole matrices at each checkpoint, or else some vectors of each edit."""
        rank = getattr(self.settings, "rank", 1 if self.method.layer_loop else PROMPT + TARGET)
        factors = rank * len(self.layers) * (self.sizes.width + self.sizes.inner)
        numbers = factors if self.method.change == "factors" else ENTRY * self.sizes.width
        return checkpoints * self.change_bytes or edits * numbers * FLOAT

    @property
    def _first(self) -> int:
        """The first layer that is run forth and back."""
        return max(self.layers) + 1 if self.method.layer_loop else min(self.layers, default=0)

    @property
    def _texts(self) -> list[float]:
        """Tokens of each text of a request: of its contexts, and of one about the subject of a value."""
        openings = max(1, len(getattr(self.settings, "context_openings", ())))
        lengths = getattr(self.settings, "context_lengths", ())
        contexts = [self.before, *(n + 1.0 for n, count in lengths for _ in range(count * openings))]
        return [n + PROMPT + TARGET - 1 for n in contexts + [0.0] * self.method.layer_loop]

    @property
    def _read(self) -> float:
        """Tokens of a text that each pass reads."""
        return AFTER + TARGET if self.method.layer_loop else max(self._texts)
