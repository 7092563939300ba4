"""Costs of each job that needs a GPU: work, bytes that it loads, memory, and disk space.

Counts follow from the configuration, the model's sizes, and a few averages named here. None is measured
when a job is estimated, so the same configuration gives the same figures everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from aftershock.budget import serac
from aftershock.budget.asking import BLOCK, LENGTHS, OBJECTS, PROBES, PROMPTS, Asking, Probes
from aftershock.budget.devices import Device
from aftershock.budget.editing import Editing, trained_weights
from aftershock.budget.edits import KINDS
from aftershock.budget.gradients import hypernetwork, network_weights
from aftershock.budget.work import DOUBLE, FLOAT, NOTHING, Work, run
from aftershock.config.settings import artifact_layers, merged_settings, moment_layers, needed_artifacts
from aftershock.editors.contract import is_in_order, layers_of
from aftershock.editors.mend import mend_training
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.regularisers import copies_state, makes_dense
from aftershock.editors.serac import serac_training

GB = 10**9
HOST, DEVICE = 1.2 * GB, 1.5 * GB  # memory of libraries and tables
PROCESS = 0.5 * GB  # of another process that shares a training
SETTLING = 15  # vectors per dimension until whitened directions have settled, about (experiments/settling.py)
WRITTEN_DOCUMENTS = 40  # in one batch (lm/statistics/self_text.py)
WRITTEN_TOKENS = 256  # of each
EIGENVECTORS = 9  # products of d^3 that an eigendecomposition takes
RELATIONS = 60  # relations to paraphrase, about
ROW_BYTES = 25  # of a table of observations, compressed (20 to 27 in the embedded study)


@dataclass(frozen=True)
class Need:
    """Needs of one job."""

    work: Work
    """Work of the computation itself, without starting and loading."""
    read: float
    """Bytes of weights, moments and the like that it loads."""
    host: float
    """Bytes of host memory."""
    gpu: float
    """Bytes of GPU memory at least, on a device of its own."""
    disk: float = 0.0
    """Bytes that it leaves."""
    on_host: bool = False
    """It computes on the processor whatever there is beside it."""

    def seconds(self, device: Device, host: Device, precision: str) -> float:
        """Seconds that the job takes on `device`, or on `host` where it runs there."""
        on = host if self.on_host else device
        return on.loading(self.read) + on.seconds(self.work, precision)


class Costs(Asking):
    """The costs of one model's jobs on a device, as a configuration has them."""

    # --- before edits ---------------------------------------------------------------------------------------

    def train_lm(self) -> Need:
        """Training on every token with all gradients, with Muon's five iterations per matrix and step.

        As many processes share it as a batch has parts.
        """
        train, sizes = self.model["train"], self.sizes
        tokens, keys = train.get("tokens", 1_000_000), train.get("row_tokens", 96)
        step = train.get("batch_rows", 8) * keys
        whole = run(sizes, tokens / step, tokens, sizes.layers, keys, read=tokens, backward=True)
        own = Work(flops=2 * tokens * (sizes.layers * sizes.layer + sizes.vocabulary * sizes.width))
        d, wide = sizes.width, (3 * sizes.width, sizes.width, sizes.inner, sizes.inner)
        muon = sum(5 * (4 * d * d * max(d, n) + 2 * d**3) for n in wide) * sizes.layers
        adam = Work(flops=muon, bytes=10 * sizes.weight_bytes, passes=4 * sizes.layers) * (tokens / step)
        parts = train.get("parts", 1)
        return self._need(
            (whole + own + adam) * (1 / parts),
            read=0.0,
            host=(parts - 1) * PROCESS,
            disk=sizes.weight_bytes + 5 * tokens,
            on_host=True,
        )

    def _text_tokens(self) -> float:
        """Approximate number of tokens of the text behind the second moments."""
        sample = self.model["moments"]
        wanted, most = sample.get("tokens"), sample["vectors_per_dimension"]
        if isinstance(wanted, int):
            return wanted
        if wanted or sample.get("text") == "self":
            most = min(most or SETTLING, SETTLING)
        tokens = sample["documents"] * self.texts.document
        return min(tokens, most * self.sizes.inner) if most else tokens

    def gather_text(self) -> Need:
        """Documents that the model generates in batches, or a text of which half is read twice."""
        found = self.moments()
        if self.model["moments"].get("text") != "self":
            return found
        texts, side_by_side = self._text_tokens() / WRITTEN_TOKENS, WRITTEN_DOCUMENTS * LENGTHS
        return replace(found, work=found.work + self.continued(texts, WRITTEN_TOKENS, side_by_side))

    def moments(self, layers: Sequence[int] | None = None, inner: int | None = None) -> Need:
        """One pass up to the highest of `layers`; products of keys and eigenvalues for each layer.

        Keys are `inner` wide, by default as the inner values of an MLP.
        """
        sizes, inner = self.sizes, inner or self.sizes.inner
        if layers is None:
            layers = moment_layers(self.config["editors"], self.model)
        tokens = self._text_tokens()
        found = run(sizes, tokens / 4096, tokens, max(layers, default=-1) + 1, self.texts.document)
        found += Work(flops=2 * tokens * inner**2, exact=9 * inner**3) * len(layers)
        kept = len(layers) * inner**2
        return self._need(found, gpu=2 * kept * DOUBLE, host=kept * (FLOAT + DOUBLE), disk=kept * FLOAT)

    def attention_moments(self) -> Need:
        """Second moments at the attentions' output projections, about as wide as the model."""
        layers = artifact_layers("attention_moments", self.config["editors"], self.model)
        return self.moments(layers, self.sizes.width)

    def null_space(self) -> Need:
        """The eigenvectors of the second moments of each layer that needs its null space."""
        inner = self.sizes.inner
        layers = len(artifact_layers("null_space", self.config["editors"], self.model))
        kept = layers * inner**2 * FLOAT
        return self._need(
            Work(exact=EIGENVECTORS * inner**3 * layers),
            read=kept,
            host=2 * kept,
            gpu=4 * inner**2 * DOUBLE,
            disk=kept,
        )

    def train_mend(self) -> Need:
        """All batches of the training without early stopping, and its evaluations on the dev split."""
        sizes, s = self.sizes, self.training
        layers = self._mend_layers
        above = sizes.layers - min(layers)
        width = self.texts.prompt + self.texts.target - 1
        edits, others = s.batch_edits, s.batch_edits * s.locality_texts

        def edited(tokens: float, read: float, backward: bool) -> Work:
            below = run(sizes, 1, tokens, sizes.layers - above, width)
            return below + run(sizes, 1, tokens, above, width, read, narrow=True, backward=backward)

        def batch(edits: float, others: float, backward: bool) -> Work:
            tokens, local = edits * width, others * (width + 1)
            found = edited(tokens, edits * self.texts.target, True)
            found += hypernetwork(sizes, s, len(layers), len(layers) * tokens, 1) * (3 if backward else 1)
            found += edited(tokens, edits * self.texts.target, backward)
            found += run(sizes, 1, local, sizes.layers, width, read=local)
            return found + run(sizes, 1, local, above, width, read=local, backward=backward)

        kept = (2 + sizes.gated) * network_weights(sizes, s)
        step = batch(edits, others, True) + Work(bytes=(4 + 10 / s.accumulate) * kept * FLOAT)
        looks = s.steps / s.val_interval * s.val_edits / BLOCK
        look = batch(BLOCK, BLOCK * s.locality_texts, False)
        look += edited(BLOCK * width, BLOCK * self.texts.target, False) * (1 + 2 * s.locality_texts)
        memory = 5 * kept * FLOAT + (edits + others) * width * sizes.token_bytes(above + 1, width)
        memory += 6 * others * width * sizes.vocabulary * FLOAT
        return self._need(step * s.steps + look * looks, gpu=memory, disk=kept * FLOAT)

    def train_serac(self) -> Need:
        """All batches of the training, and its evaluations on the dev split."""
        settings = serac_training(self.model["serac"], self.config["serac"]["settings"])
        work, kept = serac.training(self.sizes, settings, self.texts)
        return self._need(work, gpu=kept, disk=serac.trained_weights(self.sizes, settings) * FLOAT)

    def verify_facts(self, facts: float) -> Need:
        """Facts scored after all prompts, ranked among other labels after one, and continued greedily."""
        cases = self.config["cases"]
        found = self.asked(facts, cases["rank_candidates"])
        return self._need(found + self.continued(facts, cases["continuation_tokens"], 1024), disk=60 * facts)

    def score_objects(self, objects: float) -> Need:
        """Objects scored as facts are; several share a prompt."""
        return self._need(
            self.asked(objects, self.config["cases"]["rank_candidates"], OBJECTS), disk=60 * objects
        )

    def baseline(self, dataset: str, cases: int) -> Need:
        """All probes of a dataset's test cases in one state."""
        found = self.scored(PROBES[dataset], cases, 1, 0) + self.said(PROBES[dataset], cases, 1)
        return self._need(found, disk=cases * PROBES[dataset].pairs * ROW_BYTES)

    # --- edits ----------------------------------------------------------------------------------------------

    def edit(self, editor: Mapping[str, Any], dataset: str, cases: int) -> Need:
        """Edits of `cases` cases and their probes in every state."""
        method, settings, probes = *self._method(editor), PROBES[dataset]
        n = 1.0 if is_in_order(settings) else float(BLOCK)
        kind = KINDS[method.cost]
        entries = editor.get("regularisers", ())
        whole = kind.delta or makes_dense(entries)
        copies = 2 if copies_state(entries) else 1
        change = trained_weights(settings, self.sizes) * FLOAT * whole * copies
        if change and self.room.accelerator:
            n = max(1.0, min(n, self.room.budget // (probes.states * change)))
        one = self._editing(settings, n)
        block = NOTHING
        for name in probes.edits:
            block += kind.work(replace(one, requests=self._labels(editor)) if name == "second" else one)
        lowest = min(layers_of(settings), default=0)
        # half of the states come after two edits
        before = kind.before(replace(one, requests=1.0 + self._labels(editor) / 2))
        block += self.scored(probes, n, probes.states, lowest, before)
        block += self.said(probes, n, probes.states, before) + self.read(n, probes.states)
        largest = replace(one, requests=self._labels(editor) if "second" in probes.edits else 1.0)
        return self._with_needs(
            method,
            settings,
            block * (cases / n),
            kind.bytes(largest) + probes.states * change,
            cases * probes.pairs * probes.states * ROW_BYTES,
        )

    def tune(self, editor: Mapping[str, Any]) -> Need:
        """Single edits of dev cases in every trial, their prompts, and five neighbours."""
        method, settings = self._method(editor)
        tuning = self.config["tuning"]
        one = self._editing(settings, float(BLOCK))
        asked = Probes(PROMPTS + 5, PROMPTS + 5, 0)
        lowest = min(layers_of(settings), default=0)
        block = KINDS[method.cost].work(one) + self.scored(
            asked, BLOCK, 1, lowest, KINDS[method.cost].before(one)
        )
        found = block * (tuning["trials"] * tuning["cases"] / BLOCK)
        return self._with_needs(method, settings, found, KINDS[method.cost].bytes(one), 1e4)

    def find_layers(self) -> Need:
        """Editors at every layer on dev cases, and second moments of all layers."""
        found, sweep = self.moments(range(self.sizes.layers)), self.config["find_layers"]
        labels = sweep["editors"] or [name for name, editor in self.config["editors"].items() if editor]
        for label in labels:
            trial = self.tune(self.config["editors"][label])
            share = len(sweep["layers"] or range(self.sizes.layers)) / self.config["tuning"]["trials"]
            found = replace(found, work=found.work + trial.work * share, gpu=max(found.gpu, trial.gpu))
        return found

    def sample_paraphrases(self) -> Need:
        """Paraphrases of all relations, written one at a time."""
        return self._need(self.continued(RELATIONS * self.config["paraphrases"]["requests"], 600, 1))

    def score_paraphrases(self) -> Need:
        """Continuations of facts of all relations, one at a time."""
        return self._need(self.continued(RELATIONS * self.config["paraphrases"]["ranking_facts"], 20, 1))

    def classify_labels(self) -> Need:
        """Labels judged by a small classifier."""
        return Need(Work(rows=1e5), read=GB, host=4 * GB, gpu=4 * GB)

    # --- parts ----------------------------------------------------------------------------------------------

    @cached_property
    def training(self) -> Any:
        """Training settings of the model's hypernetwork."""
        return mend_training(self.model["mend"], self.config["mend"]["settings"])

    @cached_property
    def _mend_layers(self) -> tuple[int, ...]:
        editors = filter(None, self.config["editors"].values())
        needing = (e for e in editors if "hypernetwork" in needed_artifacts(e, self.model))
        return self._method(next(needing))[1].layers

    def _method(self, editor: Mapping[str, Any]) -> tuple[Any, Any]:
        name = editor["method"]
        return method_of(name).method, settings_of(name, merged_settings(editor, self.model))

    def _editing(self, settings: Any, cases: float) -> Editing:
        return Editing(self.sizes, self.room, settings, self.training, cases, texts=self.texts)

    def _labels(self, editor: Mapping[str, Any]) -> float:
        """Requests of an editor's second edit of a round case."""
        if editor.get("second_edit", "plain") == "plain":
            return 1.0
        labels = editor.get("labels", "all")
        return {"all": OBJECTS, "related": 2.0}.get(labels) or min(float(labels), OBJECTS)

    def _with_needs(self, method: Any, settings: Any, work: Work, case: float, disk: float) -> Need:
        """Needs of an editing job, including loading artifacts and factorising second moments once."""
        matrices, square = len(layers_of(settings)), self.sizes.inner**2
        needs = method.needs(settings)
        moments = matrices * square * ("moments" in needs)
        moments += matrices * self.sizes.width**2 * ("attention_moments" in needs)
        trained = (2 + self.sizes.gated) * network_weights(self.sizes, self.training)
        trained *= "hypernetwork" in needs
        spaces = matrices * square * ("null_space" in needs)
        if "scope_models" in needs:
            training = serac_training(self.model["serac"], self.config["serac"]["settings"])
            trained += serac.trained_weights(self.sizes, training)
        return self._need(
            work + Work(exact=moments * self.sizes.inner / 3),
            read=self.sizes.weight_bytes + (moments + spaces + trained) * FLOAT,
            host=(moments + spaces) * FLOAT,
            gpu=(moments + spaces) * DOUBLE + trained * FLOAT + case,
            disk=disk,
        )

    def _need(
        self,
        work: Work,
        read: float | None = None,
        host: float = 0.0,
        gpu: float = 0.0,
        disk: float = 0.0,
        on_host: bool = False,
    ) -> Need:
        weights = self.sizes.weight_bytes
        # without a GPU, its share of memory counts as the host's
        beside = 0.0 if self.device.accelerator and not on_host else gpu
        return Need(
            work,
            weights if read is None else read,
            HOST + 1.1 * weights + host + beside,
            DEVICE + weights + 1.1 * gpu,
            disk,
            on_host,
        )
