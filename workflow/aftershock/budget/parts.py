"""Needs of a job, probes of a case, and the work of passes, texts and edits that jobs are estimated from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from aftershock.budget.devices import GB, Device
from aftershock.budget.edits import ADAM_BYTES, BATCH_TOKENS, Editing
from aftershock.budget.work import DOCUMENT, DOUBLE, FLOAT, NOTHING, PROMPT, TARGET, Sizes, Work, run
from aftershock.config.sequences import plans_of
from aftershock.config.settings import merged_settings
from aftershock.editors.contract import is_in_order, layers_of
from aftershock.editors.mend import mend_training
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.regularisers import makes_dense
from aftershock.editors.serac import serac_training
from aftershock.experiments.sequences.plan import Plan

HOST, DEVICE, PROCESS = 1.2 * GB, 1.5 * GB, 0.5 * GB  # memory of libraries and tables; of one more process
BATCH_BYTES = 1 << 30  # at most, of a batch on a processor
BLOCK = 32  # cases that are edited and scored together
PROMPTS, OBJECTS = 11, 3.0  # of a fact: the edit's own prompt and ten paraphrases; of a round case
LENGTHS = 6  # distinct lengths among a block's prompts to continue: each is a batch
SETTLING = 15  # vectors per dimension until whitened directions have settled, about


class Probes(NamedTuple):
    """Prompts, objects after them, continued prompts and edits of a case (see datasets/probes.py)."""

    prompts: float
    pairs: float
    spoken: float = 0
    edits: tuple[str, ...] = ("e1", "e2", "e2", "control")
    states: int = 4


ROUND_PROBES = Probes(2 * PROMPTS, (2 * OBJECTS + 1) * PROMPTS, 1, ("e1", "second"), 3)
PROBES = {
    "coverage": Probes(PROMPTS + 9, 3 * PROMPTS + 14, 1),
    "reverse": Probes(3 * PROMPTS, 5 * PROMPTS, 3),
    "composite": Probes(5 * PROMPTS + 1, 8 * PROMPTS + 1, 3),
    "round_easy": ROUND_PROBES,
    "round_hard": ROUND_PROBES,
}


@dataclass(frozen=True)
class Need:
    """Needs of one job.

    work: of the computation itself, without starting and loading `read` bytes of weights and the like.
    host, gpu: bytes of memory, of a GPU's at least, on one of its own. disk: bytes that it leaves.
    on_host: it computes on the processor whatever there is beside it.
    """

    work: Work
    read: float
    host: float
    gpu: float
    disk: float = 0.0
    on_host: bool = False

    def seconds(self, device: Device, host: Device, precision: str) -> float:
        """Seconds that the job takes on `device`, or on `host` where it runs there."""
        on = host if self.on_host else device
        return on.loading(self.read) + on.seconds(self.work, precision)


class Parts:
    """Parts of the needs of one model's jobs on a device, as a configuration has them."""

    def __init__(self, config: Mapping[str, Any], model: Mapping[str, Any], device: Device) -> None:
        self.config, self.model, self.device, self.sizes = config, model, device, Sizes.of(model)

    def scored(
        self, probes: Probes, cases: float, states: int, unchanged: int = 0, before: float = 0.0
    ) -> Work:
        """Probes and continuations of `cases` cases in several states.

        Layers below `unchanged` are run once for all; `before` are tokens that stand before each prompt.
        """
        sizes, rows = self.sizes, cases * probes.prompts
        more = probes.pairs / probes.prompts * (TARGET - 1)
        width, read = before + PROMPT + more, 1 + more
        batches = self._batches(rows, width, read)
        once = run(sizes, batches, rows * width, unchanged, width)
        above = run(sizes, batches, rows * width, sizes.layers - unchanged, width, rows * read, narrow=True)
        tokens = self.config["continuations"]["tokens"] if probes.spoken else 0
        said = self._continued(cases * probes.spoken, before + PROMPT, tokens, BLOCK)
        return once + (above + said + Work(rows=cases * probes.pairs)) * states

    def _texts_read(self, rows: float, width: float, read: float) -> Work:
        """`rows` texts of `width` tokens, run once; the scores of `read` tokens of each are taken."""
        batches, tokens = self._batches(rows, width, read), rows * width
        return run(self.sizes, batches, tokens, self.sizes.layers, width, rows * read, narrow=read < width)

    def _batches(self, rows: float, width: float, read: float) -> float:
        kept = width * self.sizes.token_bytes(1, width) + 3 * read * self.sizes.vocabulary * FLOAT
        return self.device.batches(self.sizes, rows * kept, rows * width, 4 * BATCH_TOKENS)

    def _continued(self, texts: float, width: float, tokens: int, block: int) -> Work:
        """Greedy continuations of prompts of `width` tokens, `block` or fewer at a time, a batch a length."""
        if not tokens or not texts:
            return NOTHING
        groups, sizes = max(1.0, texts / block) * min(LENGTHS, texts), self.sizes
        first = run(sizes, groups, texts * width, sizes.layers, width, read=texts)
        return first + run(sizes, groups, texts, sizes.layers, width + tokens, read=texts) * (tokens - 1)

    def _asked(self, facts: float, share: float) -> Work:
        """`facts`, `share` of them to a prompt, after all prompts; and other labels after the first."""
        keys, candidates = facts / share, self.config["cases"]["rank_candidates"]
        rows = keys * (candidates + (PROMPTS - 1) * share)
        more = rows / max(1.0, keys * PROMPTS) * (TARGET - 1)
        return self._texts_read(keys * PROMPTS, PROMPT + more, 1 + more) + Work(rows=rows)

    @staticmethod
    def _trained(steps: float, tokens: float, sizes: Sizes, width: float, read: float) -> Work:
        """Steps of training a whole model under Adam, on so many tokens each."""
        own = Work(2 * (tokens * sizes.layers * sizes.layer + read * sizes.width * sizes.vocabulary))
        adam = Work(bytes=ADAM_BYTES * sizes.parameters)
        return (run(sizes, 1, tokens, sizes.layers, width, read, backward=True) + own + adam) * steps

    def _text_tokens(self) -> float:
        """Approximate number of tokens of the text behind the second moments."""
        sample = self.model["moments"]
        wanted, most = sample.get("tokens"), sample["vectors_per_dimension"]
        if isinstance(wanted, int):
            return wanted
        if wanted or sample.get("text") == "self":
            most = min(most or SETTLING, SETTLING)
        tokens = sample["documents"] * DOCUMENT
        return min(tokens, most * self.sizes.inner) if most else tokens

    def _plan(self, name: str) -> Plan:
        return Plan.from_config(plans_of(self.config)[name])

    def _editing(self, label: str, cases: int = 1) -> Editing:
        """Cases that an editor edits in one batch: one, where an edit depends on those before it."""
        editor = self.config["editors"][label]
        method = method_of(editor["method"]).method
        settings = settings_of(editor["method"], merged_settings(editor, self.model))
        trained = "hypernetwork" in method.needs(settings)
        network = self._network(len(layers_of(settings))) if trained else 0.0
        dense = makes_dense(editor.get("regularisers", ()))
        together = 1.0 if is_in_order(settings) else float(cases)
        return Editing(method, settings, self.sizes, self.device, network, dense, together)

    def _network(self, layers: int) -> float:
        """Weights that MEND's networks for `layers` layers apply; matrices of one shape share a network."""
        s = mend_training(self.model["mend"], self.config["mend"]["settings"])
        wide = self.sizes.width + self.sizes.inner
        return (s.n_hidden + 1) * 2 * wide * min(s.rank, wide) * (2 + self.sizes.gated) * layers

    def _scope_models(self) -> tuple[Any, list[Sizes]]:
        """Settings of SERAC's training, and its classifier and counterfactual model: lowest layers."""
        s = serac_training(self.model["serac"], self.config["serac"]["settings"])
        depths = (s.scope_layers, s.counterfactual_layers)
        return s, [replace(self.sizes, layers=min(n, self.sizes.layers)) for n in depths]

    @staticmethod
    def _labels(editor: Mapping[str, Any]) -> float:
        """Requests of an editor's second edit of a round case."""
        if editor.get("second_edit", "plain") == "plain":
            return 1.0
        labels = editor.get("labels", "all")
        return {"all": OBJECTS, "related": 2.0}.get(labels) or min(float(labels), OBJECTS)

    def _of_editing(self, one: Editing, work: Work, memory: float, disk: float) -> Need:
        """Needs of an editing job, including loading artifacts and factorising second moments once."""
        layers, needs = len(one.layers), one.method.needs(one.settings)
        moments = layers * self.sizes.inner**2 * ("moments" in needs)
        moments += layers * self.sizes.width**2 * ("attention_moments" in needs)
        spaces = layers * self.sizes.inner**2 * ("null_space" in needs)
        trained = one.network / max(1, layers)
        if "scope_models" in needs:
            trained += sum(part.parameters for part in self._scope_models()[1])
        return self._need(
            work + Work(exact=moments * self.sizes.inner / 3),
            read=self.sizes.weight_bytes + (moments + spaces + trained) * FLOAT,
            host=(moments + spaces) * FLOAT
            + self._batch * (not self.device.accelerator),  # a backward pass's
            gpu=(moments + spaces) * DOUBLE + trained * FLOAT + memory,
            disk=disk,
        )

    @property
    def _batch(self) -> float:
        """Bytes of a batch on a processor."""
        tokens = BATCH_TOKENS * self.sizes.token_bytes(self.sizes.layers, PROMPT + TARGET)
        return min(BATCH_BYTES, tokens)

    def _need(
        self,
        work: Work,
        read: float | None = None,
        host: float = 0.0,
        gpu: float = 0.0,
        disk: float = 0.0,
        on_host: bool = False,
    ) -> Need:
        """Needs with the model's weights; without a GPU, its memory is the host's, and so is a batch's."""
        weights, beside = self.sizes.weight_bytes, 0.0
        if on_host or not self.device.accelerator:
            beside = gpu + self._batch
        return Need(
            work,
            weights if read is None else read,
            HOST + 1.1 * weights + host + beside,
            DEVICE + weights + 1.1 * gpu,
            disk,
            on_host,
        )
