"""Needs of each rule's jobs that use a GPU: work, bytes that they load, memory, and disk space.

Counts follow from the configuration, the model's sizes, and a few averages named here. None is measured
when a job is estimated, so the same configuration gives the same figures everywhere.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aftershock.budget.devices import GB
from aftershock.budget.parts import BLOCK, LENGTHS, OBJECTS, PROBES, PROCESS, PROMPTS, Need, Parts, Probes
from aftershock.budget.work import DOCUMENT, DOUBLE, FLOAT, NOTHING, PROMPT, TARGET, Work, run
from aftershock.config.sequences import plans_of
from aftershock.config.settings import artifact_layers, moment_layers
from aftershock.datasets.table import AFTER, BEFORE, BETWEEN
from aftershock.editors.mend import mend_training
from aftershock.editors.regularisers import copies_state
from aftershock.project import PROJECT
from aftershock.tasks.definition import read_task

OWN_TEXTS, OWN_TOKENS = 4, 32  # that perplexity is measured on
ROW_BYTES = 25  # of a table of observations, compressed (20 to 27 in the embedded study)
WRITTEN_DOCUMENTS, WRITTEN_TOKENS = 40, 256  # in one batch of generated text, and of each
EIGENVECTORS = 9  # products of d^3 that an eigendecomposition takes
RELATIONS = 60  # relations to paraphrase, about
ALL_ITEMS, ITEM_TOKENS = 6000, 90.0  # of a task of which all are taken (the mean of seven), and of each
CHOICE_TOKENS = 12.0  # of all choices of an item
ITEM_BYTES, TOKEN_BYTES = 120, 4  # of an item's outputs, and of a generated token with its text
HELD = 4  # states of a case among unrelated edits that are in memory at a time
PROBES_OF_FILE = 8  # of an edit where a plan sets no limits


class Costs(Parts):
    """The needs of one model's jobs on a device, as a configuration has them; a method for each rule.

    A method takes what it needs of a job's wildcards and the number of its `cases`, and leaves the others.
    """

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
