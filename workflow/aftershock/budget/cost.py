"""Needs of each rule's jobs that use a GPU: work, bytes that they load, memory, and disk space.

Counts follow from the configuration, the model's sizes, and a few averages named here. None is measured
when a job is estimated, so the same configuration gives the same figures everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from aftershock.budget.devices import GB, Device
from aftershock.budget.edits import ADAM_BYTES, BATCH_TOKENS, Editing
from aftershock.budget.work import DOCUMENT, DOUBLE, FLOAT, NOTHING, PROMPT, TARGET, Sizes, Work, run
from aftershock.config.sequences import plans_of
from aftershock.config.settings import artifact_layers, merged_settings, moment_layers
from aftershock.datasets.table import AFTER, BEFORE, BETWEEN
from aftershock.editors.contract import is_in_order, layers_of
from aftershock.editors.mend import mend_training
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.regularisers import copies_state, makes_dense
from aftershock.editors.serac import serac_training
from aftershock.experiments.sequences.plan import Plan
from aftershock.project import PROJECT
from aftershock.tasks.definition import read_task

HOST, DEVICE, PROCESS = 1.2 * GB, 1.5 * GB, 0.5 * GB  # memory of libraries and tables; of one more process
BATCH_BYTES = 1 << 30  # at most, of a batch on a processor
BLOCK = 32  # cases that are edited and scored together
PROMPTS, OBJECTS = 11, 3.0  # of a fact: the edit's own prompt and ten paraphrases; of a round case
LENGTHS = 6  # distinct lengths among a block's prompts to continue: each is a batch
OWN_TEXTS, OWN_TOKENS = 4, 32  # that perplexity is measured on
ROW_BYTES = 25  # of a table of observations, compressed (20 to 27 in the embedded study)
SETTLING = 15  # vectors per dimension until whitened directions have settled, about
WRITTEN_DOCUMENTS, WRITTEN_TOKENS = 40, 256  # in one batch of generated text, and of each
EIGENVECTORS = 9  # products of d^3 that an eigendecomposition takes
RELATIONS = 60  # relations to paraphrase, about
ALL_ITEMS, ITEM_TOKENS = 6000, 90.0  # of a task of which all are taken (the mean of seven), and of each
CHOICE_TOKENS = 12.0  # of all choices of an item
ITEM_BYTES, TOKEN_BYTES = 120, 4  # of an item's outputs, and of a generated token with its text
HELD = 4  # states of a case among unrelated edits that are in memory at a time
PROBES_OF_FILE = 8  # of an edit where a plan sets no limits


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


class Costs:
    """The needs of one model's jobs on a device, as a configuration has them; a method for each rule.

    A method takes what it needs of a job's wildcards and the number of its `cases`, and leaves the others.
    """

    def __init__(self, config: Mapping[str, Any], model: Mapping[str, Any], device: Device) -> None:
        self.config, self.model, self.device, self.sizes = config, model, device, Sizes.of(model)

    # --- before edits ---------------------------------------------------------------------------------------

    def train_lm(self, **_: Any) -> Need:
        """Training on every token, with Muon's five iterations per matrix and step, by several processes."""
        train, sizes = self.model["train"], self.sizes
        tokens, keys = train.get("tokens", 1_000_000), train.get("row_tokens", 96)
        steps, parts = tokens / (train.get("batch_rows", 8) * keys), train.get("parts", 1)
        found = self._trained(steps, tokens / steps, sizes, keys, tokens / steps)
        muon = Work(flops=30 * sizes.width * sizes.layers * sizes.layer, passes=4 * sizes.layers) * steps
        host, disk = (parts - 1) * PROCESS + 4 * sizes.weight_bytes, sizes.weight_bytes + 5 * tokens
        return self._need((found + muon) * (1 / parts), read=0.0, host=host, disk=disk, on_host=True)

    def train_mend(self, **_: Any) -> Need:
        """All batches of the training without early stopping, and its evaluations on the dev split.

        Edits are run before and after they are made, other texts in the unedited and in the edited model.
        """
        s, sizes = mend_training(self.model["mend"], self.config["mend"]["settings"]), self.sizes
        layers, width = artifact_layers("hypernetwork", self.config["editors"], self.model), PROMPT + TARGET
        above, kept = sizes.layers - min(layers, default=0), self._network(1)
        tokens = 2 * s.batch_edits * (1 + s.locality_texts) * width
        step = run(sizes, 4, tokens, sizes.layers - above, width)
        step += run(sizes, 4, tokens, above, width, read=tokens / 2, backward=True)
        step += Work(3 * tokens * kept * len(layers), bytes=(4 + 10 / s.accumulate) * kept * FLOAT)
        looks = s.steps / s.val_interval * s.val_edits / s.batch_edits / BLOCK
        memory = 5 * kept * FLOAT + tokens * (
            sizes.token_bytes(above + 1, width) + 3 * sizes.vocabulary * FLOAT
        )
        return self._need(step * (s.steps + looks), gpu=memory, disk=kept * FLOAT)

    def train_serac(self, **_: Any) -> Need:
        """All batches of the training of the scope classifier and the counterfactual model, and looks."""
        s, parts = self._scope_models()
        asked = s.batch_edits * (2 + s.other_texts) * PROMPT
        answered = s.batch_edits * (3 * PROMPT + 2 * TARGET)
        work, memory, weights = NOTHING, 0.0, sum(part.parameters for part in parts)
        for part, tokens, read in zip(parts, (asked, answered), (0.0, answered), strict=True):
            looks = s.val_edits / s.batch_edits / s.val_interval  # batches for each batch
            work += self._trained(s.steps * (1 + looks), tokens, part, 5 * PROMPT, read)
            memory += tokens * part.token_bytes(part.layers, 5 * PROMPT) + 4 * read * part.vocabulary * FLOAT
        return self._need(work, gpu=memory + 4 * weights * FLOAT, disk=weights * FLOAT)

    def gather_text(self, **_: Any) -> Need:
        """Documents that the model generates in batches, or a text of which half is read twice."""
        found = self.moments()
        if self.model["moments"].get("text") != "self":
            return found
        texts, together = self._text_tokens() / WRITTEN_TOKENS, WRITTEN_DOCUMENTS * LENGTHS
        return replace(found, work=found.work + self._continued(texts, PROMPT, WRITTEN_TOKENS, together))

    def moments(self, layers: Sequence[int] | None = None, inner: int | None = None, **_: Any) -> Need:
        """One pass up to the highest of `layers`; products of keys and eigenvalues for each layer.

        Keys are `inner` wide, by default as the inner values of an MLP.
        """
        sizes, inner = self.sizes, inner or self.sizes.inner
        layers = moment_layers(self.config["editors"], self.model) if layers is None else layers
        tokens, kept = self._text_tokens(), len(layers) * inner**2
        found = run(sizes, tokens / 4096, tokens, max(layers, default=-1) + 1, DOCUMENT)
        found += Work(flops=2 * tokens * inner**2, exact=EIGENVECTORS * inner**3) * len(layers)
        return self._need(found, gpu=2 * kept * DOUBLE, host=kept * (FLOAT + DOUBLE), disk=kept * FLOAT)

    def attention_moments(self, **_: Any) -> Need:
        """Second moments at the attentions' output projections, about as wide as the model."""
        layers = artifact_layers("attention_moments", self.config["editors"], self.model)
        return self.moments(layers, self.sizes.width)

    def null_space(self, **_: Any) -> Need:
        """The eigenvectors of the second moments of each layer that needs its null space."""
        layers = len(artifact_layers("null_space", self.config["editors"], self.model))
        square, work = self.sizes.inner**2, Work(exact=EIGENVECTORS * self.sizes.inner**3 * layers)
        kept = layers * square * FLOAT
        return self._need(work, read=kept, host=2 * kept, gpu=4 * square * DOUBLE, disk=kept)

    def verify_facts(self, facts: float, **_: Any) -> Need:
        """Facts scored after all prompts, ranked among other labels after one, and continued greedily."""
        said = self._continued(facts, PROMPT, self.config["cases"]["continuation_tokens"], 1024)
        return self._need(self._asked(facts, 1.0) + said, disk=60 * facts)

    def score_objects(self, objects: float, **_: Any) -> Need:
        """Objects scored as facts are; several share a prompt."""
        return self._need(self._asked(objects, OBJECTS), disk=60 * objects)

    def baseline(self, dataset: str, cases: int, **_: Any) -> Need:
        """All probes of a dataset's test cases in one state."""
        return self._need(
            self.scored(PROBES[dataset], cases, 1), disk=cases * PROBES[dataset].pairs * ROW_BYTES
        )

    def sample_paraphrases(self, **_: Any) -> Need:
        """Paraphrases of all relations, written one at a time."""
        return self._need(self._continued(RELATIONS * self.config["paraphrases"]["requests"], PROMPT, 600, 1))

    def score_paraphrases(self, **_: Any) -> Need:
        """Continuations of facts of all relations, one at a time."""
        facts = self.config["paraphrases"]["ranking_facts"]
        return self._need(self._continued(RELATIONS * facts, PROMPT, 20, 1))

    def classify_labels(self, **_: Any) -> Need:
        """Labels judged by a small classifier."""
        return Need(Work(rows=1e5), read=GB, host=4 * GB, gpu=4 * GB)

    # --- edits ----------------------------------------------------------------------------------------------

    def edit(self, editor: str, dataset: str, cases: int, **_: Any) -> Need:
        """Edits of `cases` cases, and their probes and texts of perplexity in every state."""
        entry, probes = self.config["editors"][editor], PROBES[dataset]
        copies = probes.states * (2 if copies_state(entry.get("regularisers", ())) else 1)
        one = self._editing(editor, BLOCK)
        second = replace(one, requests=self._labels(entry) if "second" in probes.edits else 1.0)
        work = sum(((second if name == "second" else one).work() for name in probes.edits), NOTHING)
        # half of the states come after two edits
        before = replace(one, requests=1 + self._labels(entry) / 2).before
        work += self.scored(probes, one.cases, probes.states, min(one.layers, default=0), before)
        if every := self.config["health"]["every"]:
            read = self._texts_read(OWN_TEXTS * one.cases / every, OWN_TOKENS, OWN_TOKENS)
            work += read * probes.states
        memory, disk = second.case_bytes + copies * one.change_bytes, cases * probes.pairs * ROW_BYTES
        return self._of_editing(one, work * (cases / one.cases), memory, probes.states * disk)

    def tune(self, editor: str, **_: Any) -> Need:
        """Single edits of dev cases in every trial, their prompts, and five neighbours."""
        one, tuning = self._editing(editor, BLOCK), self.config["tuning"]
        probes = Probes(PROMPTS + 5, PROMPTS + 5)
        work = one.work() + self.scored(probes, one.cases, 1, min(one.layers, default=0), one.before)
        work *= tuning["trials"] * tuning["cases"] / one.cases
        return self._of_editing(one, work, one.case_bytes, 1e4)

    def find_layers(self, **_: Any) -> Need:
        """Editors at every layer on dev cases, and second moments of all layers."""
        found, sweep = self.moments(range(self.sizes.layers)), self.config["find_layers"]
        share = len(sweep["layers"] or range(self.sizes.layers)) / self.config["tuning"]["trials"]
        for label in sweep["editors"] or [name for name, editor in self.config["editors"].items() if editor]:
            trial = self.tune(label)
            memory = max(found.host, trial.host), max(found.gpu, trial.gpu)
            found = replace(found, work=found.work + trial.work * share, host=memory[0], gpu=memory[1])
        return found

    # --- sequences of edits ---------------------------------------------------------------------------------

    def edit_sequence(self, editor: str, plan: str, **_: Any) -> Need:
        """All turns of a plan, the text whose perplexity is measured after each, and the log."""
        one, made = self._editing(editor), self._plan(plan)
        turns = [len(turn.positions) for turn in made.turns]
        work = self._texts_read(OWN_TEXTS, OWN_TOKENS, OWN_TOKENS) * len(turns)
        for size in set(turns):
            work += replace(one, requests=float(size)).work() * turns.count(size)
        largest = replace(one, requests=float(max(turns, default=1))).case_bytes
        return self._of_editing(one, work, largest, one.log_bytes(sum(turns), len(made.edited)))

    def edit_among(self, editor: str, plan: str, dataset: str, place: str, cases: int, **_: Any) -> Need:
        """Cases among edits of a plan, those that follow a case's own made anew, and their probes."""
        made, numbers = self._plan(plan), plans_of(self.config)[plan]["cases"][place]
        after = [turn for turn in made.turns if place != BEFORE and turn.before < max(numbers)]
        sizes = [float(len(turn.positions)) for turn in after]
        own = {BEFORE: 2 * len(numbers), BETWEEN: 1 + len(numbers), AFTER: 2}[place]
        states = {BEFORE: 3, BETWEEN: 2, AFTER: 2}[place] * len(numbers)
        one = self._editing(editor, min(BLOCK, cases))
        work = sum((replace(one, requests=size).work() for size in sizes), one.work() * own)
        work += self.scored(
            PROBES[dataset]._replace(spoken=0), one.cases, states, min(one.layers, default=0), one.before
        )
        memory = replace(one, requests=max(sizes, default=1.0)).case_bytes + HELD * one.edited * FLOAT
        disk = states * cases * PROBES[dataset].pairs * ROW_BYTES
        return self._of_editing(one, work * (cases / one.cases), memory, disk)

    def probe_sequence(self, plan: str, checkpoints: str | None = None, **_: Any) -> Need:
        """The probes of all edits of a plan at some of its checkpoints; in the unedited model with none."""
        made, edits = self._plan(plan), plans_of(self.config)[plan]["edits"]
        n = len(made.checkpoints_of(checkpoints)) if checkpoints else 1
        probes = made.edits * (1.0 + edits.get("paraphrases", PROBES_OF_FILE) + edits.get("neighbours", 0))
        # a new object and a true one
        return self._need(self.scored(Probes(probes, 2 * probes), 1, n), disk=n * probes * ROW_BYTES)

    def run_task(self, task: str, plan: str | None = None, checkpoints: str | None = None, **_: Any) -> Need:
        """A task's items, each with its examples, at checkpoints of a plan; with none in the unedited model.

        A generated text is as long as allowed.
        """
        what, tokens = read_task(task, PROJECT / "resources" / "tasks"), 0
        n = len(self._plan(plan).checkpoints_of(checkpoints)) if plan and checkpoints else 1
        items = float(self.config["abilities"]["items"] or ALL_ITEMS)
        own = what.source in ("world", "edits")  # whose items are two sentences about facts, documents four
        prompt = (what.shots + 1) * (2 * PROMPT if own else ITEM_TOKENS)
        if what.kind == "generate":
            tokens = what.max_tokens
            kept = (prompt + tokens) * self.sizes.token_bytes(1, prompt) * LENGTHS
            wide = self.device.room(self.sizes) // kept if self.device.accelerator else LENGTHS
            work = self._continued(items, prompt, tokens, max(1, int(wide)))
        elif what.kind == "perplexity":
            width = 4 * PROMPT if own else DOCUMENT
            work = self._texts_read(items, width, width)
        else:
            work = self._texts_read(items, prompt + CHOICE_TOKENS, CHOICE_TOKENS)
        disk = n * items * (ITEM_BYTES + TOKEN_BYTES * tokens)
        return self._need((work + Work(rows=items)) * n, disk=disk)

    # --- parts ----------------------------------------------------------------------------------------------

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
