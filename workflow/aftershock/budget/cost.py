"""Needs of each rule's jobs that use a GPU: work, bytes that they load, memory, and disk space.

Counts follow from the configuration, the model's sizes, and a few averages named here. None is measured
when a job is estimated, so the same configuration gives the same figures everywhere.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aftershock.budget.devices import GB, Device
from aftershock.budget.edits import Editing
from aftershock.budget.work import PROMPT, TARGET, TOUCHED, TRAINED, Work, generate, run, score
from aftershock.config.sequences import plans_of
from aftershock.config.settings import artifact_layers, merged_settings
from aftershock.config.shards import BLOCK
from aftershock.config.sizes import DOUBLE, FLOAT, Sizes
from aftershock.datasets.table import BEFORE, find_dataset
from aftershock.editors.contract import is_in_order
from aftershock.editors.mend import mend_training
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.serac import serac_training
from aftershock.experiments.sequences.plan import Plan
from aftershock.project import PROJECT
from aftershock.tasks.definition import read_task

HOST, DEVICE, PROCESS = 1.2 * GB, 1.5 * GB, 0.5 * GB  # memory of libraries and tables; of one more process
BATCH_BYTES, BATCH_TOKENS = 1 << 30, 1024  # at most, of a batch on a processor
PROMPTS, TARGETS, OBJECTS = 11, 2.0, 3.0  # of a fact, after each of them, of a round case
FACTS = {"coverage": 2, "reverse": 3, "composite": 5, "round_easy": 2, "round_hard": 2}
"""Facts of a case that are scored after all their prompts; all but one of them are continued too."""
OWN_TOKENS = 4 * 32  # of the texts that perplexity is measured on
OPTIMISER = 1.4  # times that a training takes its passes, with Adam's or Muon's steps
DOCUMENT, WRITTEN, SETTLING = 600, 256, 15  # tokens read, or written, of a document; per dimension, if auto
EIGENVECTORS = 9  # products of d^3 that an eigendecomposition takes
RELATIONS = 60  # relations to paraphrase, about
ITEMS, ITEM_TOKENS, CHOICE_TOKENS = 6000, 90, 12  # of a whole task; of an item; of all its choices
CONTINUED, GENERATED = 5, 4  # texts at a time, of continuations and of a task on a GPU
ROW_BYTES, FACT_BYTES, ITEM_BYTES = 25, 60, 250  # of a written observation; of a fact's, and an item's
PROBES_OF_FILE = 8  # of an edit where a plan sets no limits


@dataclass(frozen=True)
class Need:
    """Needs of one job: work, and bytes that it loads first, has in memory, and leaves on a disk."""

    work: Work
    read: float
    host: float
    gpu: float
    disk: float = 0.0


class Costs:
    """The needs of one model's jobs on a device, as a configuration has them; a method for each rule.

    A method takes what it needs of a job's wildcards and its numbers of cases, facts and objects.
    """

    def __init__(self, config: Mapping[str, Any], model: Mapping[str, Any], device: Device) -> None:
        self.config, self.model, self.device, self.sizes = config, model, device, Sizes.of(model)

    def train_lm(self, **_: Any) -> Need:
        """Training of all weights on every token, by several processes."""
        train, weights = self.model["train"], self.sizes.parameters
        step, parts = train.get("batch_rows", 8) * train.get("row_tokens", 96), train.get("parts", 1)
        found = self._training(self.sizes, train.get("tokens", 1_000_000) / step / parts, step, weights)
        return replace(found, host=found.host + (parts - 1) * PROCESS + 4 * FLOAT * weights)

    def train_mend(self, **_: Any) -> Need:
        """All batches of the training without early stopping, as if it trained the edited layers."""
        s, weights, lowest = *self._network(), min(self._layers("hypernetwork"), default=0)
        tokens = 2 * s.batch_edits * (1 + s.locality_texts) * (PROMPT + TARGET)
        above = replace(self.sizes, layers=self.sizes.layers - lowest)
        found = self._training(above, s.steps, tokens, weights)
        return replace(found, work=found.work + run(self.sizes, tokens, layers=lowest, batches=4) * s.steps)

    def train_serac(self, **_: Any) -> Need:
        """All batches of the training of the scope classifier and the counterfactual model."""
        s, part = self._scope_model()
        return self._training(part, s.steps, s.batch_edits * (1 + s.other_texts) * PROMPT, part.parameters)

    def moments(self, artifact: str = "moments", **_: Any) -> Need:
        """One pass up to the highest of some layers; products of their keys, and eigenvalues, for each."""
        layers = range(self.sizes.layers) if artifact == "find_layers" else self._layers(artifact)
        width = self.sizes.width if artifact == "attention_moments" else self.sizes.inner
        tokens = 0.0 if artifact == "null_space" else self._text_tokens
        kept = len(layers) * width**2
        work = run(self.sizes, tokens, layers=max(layers, default=-1) + 1)
        keys = TOUCHED * FLOAT * tokens * len(layers) * width
        work += Work(2 * tokens * kept, EIGENVECTORS * kept * width, keys)
        return self._need(work, 2 * kept * DOUBLE, kept * (FLOAT + DOUBLE), kept * FLOAT)

    def attention_moments(self, **_: Any) -> Need:
        """Second moments at the attentions' output projections, about as wide as the model."""
        return self.moments("attention_moments")

    def null_space(self, **_: Any) -> Need:
        """The eigenvectors of the second moments of each layer that needs its null space."""
        return self.moments("null_space")

    def gather_text(self, **_: Any) -> Need:
        """Documents that the model generates in batches, or a text of which half is read twice."""
        found, own = self.moments(), self.model["moments"].get("text") == "self"
        written = generate(self.sizes, own * self._text_tokens / WRITTEN, PROMPT, WRITTEN, BLOCK)
        return replace(found, work=found.work + written)

    def find_layers(self, **_: Any) -> Need:
        """Second moments of all layers, and editors at every layer on dev cases."""
        found, sweep = self.moments("find_layers"), self.config["find_layers"]
        times = len(sweep["layers"] or range(self.sizes.layers)) / self.config["tuning"]["trials"]
        editors = sweep["editors"] or filter(self.config["editors"].get, self.config["editors"])
        return replace(found, work=sum((self.tune(each).work * times for each in editors), found.work))

    def verify_facts(self, facts: float, **_: Any) -> Need:
        """Facts scored after all prompts, ranked among other labels after one, and continued greedily."""
        return self._asked(facts, 1.0, self.config["cases"]["continuation_tokens"])

    def score_objects(self, objects: float, **_: Any) -> Need:
        """Objects scored as facts are; several share a prompt."""
        return self._asked(objects, OBJECTS)

    def sample_paraphrases(self, **_: Any) -> Need:
        """Paraphrases of all relations, written one at a time; more than are then ranked."""
        texts = RELATIONS * self.config["paraphrases"]["requests"]
        return self._need(generate(self.sizes, texts, PROMPT, 600))

    def classify_labels(self, **_: Any) -> Need:
        """Labels judged by a small classifier."""
        return Need(Work(rows=1e5), read=GB, host=4 * GB, gpu=4 * GB)

    def baseline(self, dataset: str, cases: int, **_: Any) -> Need:
        """All probes of a dataset's test cases in one state."""
        return self._need(self._scored(dataset, cases))

    def edit(self, editor: str, dataset: str, cases: int, **_: Any) -> Need:
        """Edits of `cases` cases, and their probes and texts of perplexity in every state."""
        one, states = self._editing(editor, BLOCK), find_dataset(dataset).states
        several = self.config["editors"][editor].get("second_edit", "plain") != "plain"
        edits = [OBJECTS if several and state.edit == "second" else 1.0 for state in states if state.edit]
        scored = self._scored(dataset, one.cases, len(states), one)
        return self._edited(one, edits, scored, len(states), cases / one.cases)

    def tune(self, editor: str, **_: Any) -> Need:
        """Single edits of dev cases in every trial, scored after the prompts of a fact and for neighbours."""
        one, tuning = self._editing(editor, BLOCK), self.config["tuning"]
        scored = score(self.sizes, one.cases * (PROMPTS + 5), 1.0, PROMPT + one.before)
        return self._edited(one, [1.0], scored, times=tuning["trials"] * tuning["cases"] / one.cases)

    def edit_sequence(self, editor: str, plan: str, **_: Any) -> Need:
        """All turns of a plan, the text whose perplexity is measured after each, and the log."""
        one, made = self._editing(editor), self._plan(plan)
        turns = [float(len(turn.positions)) for turn in made.turns]
        disk = one.log_bytes(sum(turns), len(made.edited))
        texts = run(self.sizes, OWN_TOKENS, OWN_TOKENS) * len(turns)
        return replace(self._edited(one, turns, texts), disk=disk)

    def edit_among(self, editor: str, plan: str, dataset: str, place: str, cases: int, **_: Any) -> Need:
        """Cases among edits of a plan, those that follow a case's own made anew, and their probes."""
        made, numbers = self._plan(plan), plans_of(self.config)[plan]["cases"][place]
        after = [turn for turn in made.turns if place != BEFORE and turn.before < max(numbers)]
        one, states = self._editing(editor, min(BLOCK, cases)), (3 if place == BEFORE else 2) * len(numbers)
        edits = [1.0] * (2 * len(numbers)) + [float(len(turn.positions)) for turn in after]
        scored = self._scored(dataset, one.cases, states, one)
        return self._edited(one, edits, scored, states, cases / one.cases)

    def probe_sequence(self, plan: str, checkpoints: str | None = None, **_: Any) -> Need:
        """The probes of all edits of a plan at some of its checkpoints; in the unedited model with none."""
        made, edits = self._plan(plan), plans_of(self.config)[plan]["edits"]
        n = len(made.checkpoints_of(checkpoints)) if checkpoints else 1
        probes = made.edits * (1.0 + edits.get("paraphrases", PROBES_OF_FILE) + edits.get("neighbours", 0))
        return self._need(score(self.sizes, probes, TARGETS) * n)

    def run_task(self, task: str, plan: str | None = None, checkpoints: str | None = None, **_: Any) -> Need:
        """A task's items and examples at checkpoints of a plan, with none in the unedited model."""
        what, sizes = read_task(task, PROJECT / "resources" / "tasks"), self.sizes
        n = len(self._plan(plan).checkpoints_of(checkpoints)) if plan and checkpoints else 1
        items, own = float(self.config["abilities"]["items"] or ITEMS), what.source in ("world", "edits")
        prompt = (what.shots + 1) * (2 * PROMPT if own else ITEM_TOKENS)
        if what.kind == "generate":
            together = GENERATED if self.device.accelerator else 1
            work = generate(sizes, items, prompt, what.max_tokens, together)
        elif what.kind == "perplexity":
            work = run(sizes, 3 * items * prompt, 3 * items * prompt)  # of whole texts, longer than items
        else:
            work = run(sizes, items * (prompt + CHOICE_TOKENS), items * CHOICE_TOKENS)
        return self._need((work + Work(rows=items)) * n, disk=n * items * ITEM_BYTES)

    baseline_strict, edit_strict, probe_unedited = baseline, edit, probe_sequence
    run_task_unedited = run_task_of_edits_unedited = run_task
    score_paraphrases = sample_paraphrases

    def _training(self, part: Sizes, steps: float, tokens: float, weights: float) -> Need:
        """Steps of so many tokens each, all of which go on to the head, through a part of the model."""
        work = run(part, tokens, tokens, kind=TRAINED, batches=2) * (OPTIMISER * steps)
        kept = tokens * (part.layers * part.token_bytes + 4 * part.vocabulary * FLOAT)
        return self._need(work, kept + 4 * weights * FLOAT, disk=weights * FLOAT)

    def _asked(self, answers: float, each: float, continued: int = 0) -> Need:
        """A job's part of `answers` in all wordings, so many to a prompt, and once other labels as well."""
        keys = answers / each / self.config["shards"]["questions"]
        others = self.config["cases"]["rank_candidates"] / PROMPTS
        work = generate(self.sizes, keys, PROMPT, continued, BATCH_TOKENS / PROMPT)
        work += score(self.sizes, keys * PROMPTS, others + each)
        return replace(self._need(work), disk=FACT_BYTES * keys * each)

    def _scored(self, dataset: str, cases: float, states: int = 1, edit: Editing | None = None) -> Work:
        """Probes and texts of cases in several states, half of them after two edits."""
        facts, width, unchanged, read = FACTS[dataset], PROMPT, 0, 0.0
        if edit:
            width, unchanged = PROMPT + replace(edit, requests=1.5).before, min(edit.layers, default=0)
            read = OWN_TOKENS * cases / (self.config["health"]["every"] or float("inf"))
        tokens = self.config["continuations"]["tokens"]
        work = generate(self.sizes, cases * (facts - 1), width, tokens, CONTINUED)
        work = (work + run(self.sizes, read, read)) * states
        return work + score(self.sizes, cases * facts * PROMPTS, TARGETS, width, states, unchanged)

    @property
    def _text_tokens(self) -> float:
        """Approximate number of tokens of the text behind the second moments."""
        sample = self.model["moments"]
        wanted, most = sample.get("tokens"), sample["vectors_per_dimension"]
        if isinstance(wanted, int):
            return wanted
        most = SETTLING if wanted or sample.get("text") == "self" else most or float("inf")
        return min(sample["documents"] * DOCUMENT, most * self.sizes.inner)

    def _layers(self, artifact: str) -> list[int]:
        return artifact_layers(artifact, self.config["editors"], self.model)

    def _plan(self, name: str) -> Plan:
        return Plan.from_config(plans_of(self.config)[name])

    def _editing(self, label: str, cases: int = 1) -> Editing:
        """Cases that an editor edits in one batch: one, where an edit depends on those before it."""
        editor = self.config["editors"][label]
        method = method_of(editor["method"]).method
        settings = settings_of(editor["method"], merged_settings(editor, self.model))
        cases = 1 if is_in_order(settings) else cases
        return Editing(method, settings, self.sizes, bool(editor.get("regularisers")), cases)

    def _network(self) -> tuple[Any, float]:
        """Settings of MEND's training, and weights of its networks; matrices of one shape share one."""
        s = mend_training(self.model["mend"], self.config["mend"]["settings"])
        wide = self.sizes.width + self.sizes.inner
        return s, (s.n_hidden + 1) * 2 * wide * min(s.rank, wide) * (2 + self.sizes.gated)

    def _scope_model(self) -> tuple[Any, Sizes]:
        """Settings of SERAC's training; its classifier and counterfactual model, lowest layers, as one."""
        s = serac_training(self.model["serac"], self.config["serac"]["settings"])
        return s, replace(self.sizes, layers=s.scope_layers + s.counterfactual_layers, tied=False)

    def _edited(
        self, one: Editing, edits: list[float], rest: Work, states: int = 0, times: float = 1.0
    ) -> Need:
        """Needs of `times` a batch of `edits`, each of so many requests, and of other work."""
        work = sum((replace(one, requests=n).work() * count for n, count in Counter(edits).items()), rest)
        moments = len(one.layers) * self.sizes.inner**2
        numbers = {"moments": moments, "null_space": moments, "hypernetwork": self._network()[1]}
        numbers["scope_models"] = self._scope_model()[1].parameters
        loaded = FLOAT * sum(numbers.get(name, 0.0) for name in one.method.needs(one.settings))
        largest = replace(one, requests=max(1.0, *edits))
        memory = 2 * loaded + largest.case_bytes + states * one.change_bytes * (1 + one.dense)
        found = self._need(work * times, memory, loaded + self._batch * (not self.device.accelerator))
        return replace(found, read=found.read + loaded)

    @property
    def _batch(self) -> float:
        """Bytes of a batch on a processor."""
        return min(BATCH_BYTES, BATCH_TOKENS * self.sizes.layers * self.sizes.token_bytes)

    def _need(self, work: Work, gpu: float = 0.0, host: float = 0.0, disk: float = 0.0) -> Need:
        """Needs with the model's weights; without a GPU, its memory is the host's, and so is a batch's."""
        weights, disk = self.sizes.parameters * FLOAT, disk + work.rows * ROW_BYTES
        host += 0 if self.device.accelerator else gpu + self._batch
        return Need(work, weights, HOST + 1.1 * weights + host, DEVICE + weights + 1.1 * gpu, disk)
