"""Costs of sequences of edits: making them, their logs, and scoring the model at checkpoints."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from aftershock.budget.asking import LENGTHS, OWN_TEXTS, OWN_TOKENS, PROBES
from aftershock.budget.cost import BLOCK, ROW_BYTES, Costs, Need
from aftershock.budget.editing import trained_weights
from aftershock.budget.edits import KINDS
from aftershock.budget.sequence_jobs import TASK_FILES
from aftershock.budget.work import FLOAT, NOTHING, Work, run
from aftershock.config.sequences import plans_of
from aftershock.datasets.table import AFTER, BEFORE, BETWEEN
from aftershock.editors.contract import is_in_order, layers_of
from aftershock.editors.regularisers import makes_dense
from aftershock.experiments.sequences.plan import Plan
from aftershock.tasks.definition import Task, read_task

ALL_ITEMS = 6000  # of a task of which all are taken: the mean of the seven of Li et al. (2024)
OWN_SENTENCES = 2.0  # of an item that is made of a graph's facts; documents have twice as many
ITEM_TOKENS = 90.0  # of a question or an example; passages are longer, single questions shorter
CHOICES, CHOICE_TOKENS = 4, 3.0
ITEM_BYTES = 120  # of an item's outputs, and of a generated token with its text
TOKEN_BYTES = 4
DOCUMENT_TOKENS = 600.0
HELD = 4  # states of a case among unrelated edits that are in memory at a time
PROBES_OF_FILE = 8  # of an edit where a plan sets no limits
RANKS = {"rank one": 1, "multi-layer": 1, "inside layers": 1}
"""Ranks of the change that an edit makes in each of its layers, where they are not its tokens."""


class SequenceCosts(Costs):
    """Costs of one model's jobs, including those of plans of edits."""

    def edit_sequence(self, editor: Mapping[str, Any], plan: str) -> Need:
        """All turns of a plan, the text whose perplexity is measured after each, and the log."""
        method, settings = self._method(editor)
        made, kind = self._plan(plan), KINDS[method.cost]
        one, work = self._editing(settings, 1.0), NOTHING
        sizes = [len(turn.positions) for turn in made.turns]
        for size in set(sizes):
            work += kind.work(replace(one, requests=float(size))) * sizes.count(size)
        work += self._perplexity() * len(sizes)
        largest = kind.bytes(replace(one, requests=float(max(sizes, default=1))))
        log = self._log_bytes(editor, sum(sizes), len(made.edited))
        return self._with_needs(method, settings, work, largest, log)

    def edit_among(self, editor: Mapping[str, Any], plan: str, dataset: str, place: str, cases: int) -> Need:
        """Cases among edits of a plan, those that follow a case's own made anew, and their probes."""
        method, settings = self._method(editor)
        made, kind, probes = self._plan(plan), KINDS[method.cost], PROBES[dataset]
        numbers = plans_of(self.config)[plan]["cases"][place]
        again = [turn for turn in made.turns if place != BEFORE and turn.before < max(numbers)]
        own = {BEFORE: 2 * len(numbers), BETWEEN: 1 + len(numbers), AFTER: 2}[place]
        states = {BEFORE: 3 * len(numbers), BETWEEN: 2 * len(numbers), AFTER: 2 * len(numbers)}[place]
        held = HELD * trained_weights(settings, self.sizes) * FLOAT
        n = 1.0 if is_in_order(settings) else float(min(BLOCK, cases))
        if self.room.accelerator:
            n = max(1.0, min(n, self.room.budget // max(1.0, held)))
        one = self._editing(settings, n)
        block = kind.work(one) * own
        for turn in again:
            block += kind.work(replace(one, requests=float(len(turn.positions))))
        lowest = min(layers_of(settings), default=0)
        block += self.scored(probes, n, states, lowest, kind.before(one))
        largest = replace(one, requests=float(max((len(turn.positions) for turn in again), default=1)))
        disk = cases * probes.pairs * states * ROW_BYTES
        room = kind.bytes(largest) + n * held
        return self._with_needs(method, settings, block * (cases / n), room, disk)

    def probe_sequence(self, plan: str, checkpoints: str | None) -> Need:
        """The probes of all edits of a plan at some of its checkpoints; in the unedited model with none."""
        made, edits = self._plan(plan), plans_of(self.config)[plan]["edits"]
        n = len(made.checkpoints_of(checkpoints)) if checkpoints else 1
        probes = made.edits * (1.0 + edits.get("paraphrases", PROBES_OF_FILE) + edits.get("neighbours", 0))
        more = 2 * (self.texts.target - 1)  # a new object and a true one
        width, read = self.texts.prompt + more, 1 + more
        once = self.texts_read(probes, width, read) + Work(rows=2 * probes)
        return self._need(once * n, disk=n * probes * ROW_BYTES)

    def run_task(self, task: str, plan: str | None, checkpoints: str | None) -> Need:
        """A task's items at some checkpoints of a plan; in the unedited model with none."""
        what = _task(task)
        n = len(self._plan(plan).checkpoints_of(checkpoints)) if plan and checkpoints else 1
        items = float(self.config["abilities"]["items"] or ALL_ITEMS)
        one = self._asked_task(what, items)
        tokens = what.max_tokens if what.kind == "generate" else 0
        return self._need(one * n, disk=n * items * (ITEM_BYTES + TOKEN_BYTES * tokens))

    def _asked_task(self, task: Task, items: float) -> Work:
        """The items of a task asked once, each with its examples; a generated text as long as allowed."""
        own = task.source in ("world", "edits")  # whose items are single sentences about facts
        one = OWN_SENTENCES * self.texts.prompt if own else ITEM_TOKENS
        sizes, prompt = self.sizes, (task.shots + 1) * one
        if task.kind == "generate":
            texts = replace(self.texts, prompt=prompt)
            asking = type(self)(self.config, self.model, self.device, texts)
            # a batch as wide as the budget allows
            kept = (prompt + task.max_tokens) * sizes.token_bytes(1, prompt)
            block = max(1, int(self.room.budget // (kept * LENGTHS))) if self.room.accelerator else LENGTHS
            return asking.continued(items, task.max_tokens, block)
        document = OWN_SENTENCES * one if own else DOCUMENT_TOKENS
        width = document if task.kind == "perplexity" else prompt + CHOICES * CHOICE_TOKENS
        read = width if task.kind == "perplexity" else CHOICES * CHOICE_TOKENS
        return self.texts_read(items, width, read) + Work(rows=items)

    def _plan(self, name: str) -> Plan:
        return Plan.from_config(plans_of(self.config)[name])

    def _perplexity(self) -> Work:
        """A text read once, to measure perplexity."""
        tokens = OWN_TEXTS * OWN_TOKENS
        return run(self.sizes, 1, tokens, self.sizes.layers, OWN_TOKENS, read=tokens)

    def _log_bytes(self, editor: Mapping[str, Any], edits: int, checkpoints: int) -> float:
        """Bytes of a log: factors of each edit, or whole matrices at each checkpoint."""
        method, settings = self._method(editor)
        both, layers = self.sizes.width + self.sizes.inner, len(layers_of(settings))
        if KINDS[method.cost].delta or makes_dense(editor.get("regularisers", ())):
            whole = trained_weights(settings, self.sizes) if layers else self.sizes.matrix
            return float(checkpoints * whole * FLOAT)
        if method.cost in ("text", "cache"):
            return edits * self.texts.prompt * TOKEN_BYTES
        if method.cost == "codebook":  # all entries, at each checkpoint
            return float(checkpoints * edits * (self.sizes.width + both) * FLOAT)
        if method.cost == "neurons":
            return float(edits * LENGTHS * self.sizes.width * FLOAT)
        rank = getattr(settings, "rank", RANKS.get(method.cost or "", self.texts.prompt + self.texts.target))
        return float(edits * max(1, layers) * rank * both * FLOAT)


@cache
def _task(name: str) -> Task:
    return read_task(name, TASK_FILES)
