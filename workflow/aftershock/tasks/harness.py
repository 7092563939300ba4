"""lm-evaluation-harness as the engine: it asks the model in memory about items that are prepared already.

It builds requests, cuts texts into tokens and long texts into windows by its own rules, and keeps samples.
What runs the model is ours, so that any state of it can be asked, and nothing is read from a network. No
batch size is remembered from one checkpoint to the next: each evaluation gets a model object of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aftershock.lm.answers import answer_greedily
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score_tokens
from aftershock.lm.texts.frames import PLAIN
from aftershock.lm.texts.tokens import Pair
from aftershock.progress import Progress
from aftershock.project import installation
from aftershock.tasks.builtin import (
    Choice,
    as_outputs,
    blank,
    check,
    checked,
    joined,
    read_prompts,
    text_windows,
)
from aftershock.tasks.reading import Asked, ItemReader, encode_each

try:
    from lm_eval import evaluate, utils
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.task import Task as HarnessTask
except ImportError as error:
    raise ImportError(
        f"engine: harness needs lm-evaluation-harness: install it "
        f"({installation('harness')}), or take engine: builtin"
    ) from error

REQUESTS = {"choice": "multiple_choice", "generate": "generate_until", "perplexity": "loglikelihood_rolling"}


def run_items(
    lm: LanguageModel,
    task: Asked,
    items: pd.DataFrame,
    state: State = EMPTY,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return what the model says to `items`, as the built-in engine does; see there."""
    check(lm, task, items)
    asked = PreparedItems(task, items)
    model = EditedModel(lm, ItemReader(lm, task.chat), task, state, progress)
    found = evaluate(model, {"tasks": {task.name: asked}}, bootstrap_iters=0, log_samples=True)
    samples = sorted(found["samples"][task.name], key=lambda sample: sample["doc_id"])
    return as_outputs([model.output(sample) for sample in samples])


@dataclass(frozen=True)
class Told:
    """Parts of an answer that lm-evaluation-harness has no place for."""

    truncated: int
    n_tokens: int = 0
    greedy: bool = False
    finished: bool | None = None


class EditedModel(TemplateLM):
    """A model in a state, as lm-evaluation-harness asks for it."""

    def __init__(
        self, lm: LanguageModel, reader: ItemReader, task: Asked, state: State, progress: Progress | None
    ) -> None:
        super().__init__()
        self.lm, self.reader, self.task, self.state, self.progress = lm, reader, task, state, progress
        self.tokenizer = lm.tokenizer
        self.told: dict[tuple[str, ...], Told] = {}  # by the texts of the request
        self._encoded: dict[str, tuple[int, ...]] = {}
        self._item_ids: list[str] = []  # of the requests under way

    @property
    def eot_token_id(self) -> int:
        """The token at the end of a document."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that nothing stands before."""
        return self.reader.opening[-1]

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Return the tokens of a text, as the model's file says that texts begin."""
        if add_special_tokens is False:
            return list(self.reader.encode_text(string))
        if string not in self._encoded:
            self._encoded |= encode_each(self.lm.encode, [string])
        return list(self._encoded[string])

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self.reader.frame == PLAIN and context.strip():
            return super()._encode_pair(context, continuation)
        (pair,) = self.reader.encode_pairs([(context, continuation)])  # of spaces alone nothing would be left
        return list(pair.prompt), list(pair.target)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation, and whether greedy decoding gives it."""
        contexts = read_prompts(self.lm, self.state, [request.args[0] for request in requests])
        texts = [(context, request.args[1]) for context, request in zip(contexts, requests, strict=True)]
        self._item_ids = [request.doc["item_id"] for request in requests]
        if self.reader.frame == PLAIN:
            whole = {
                text for context, behind in texts for text in (context.rstrip(), context + behind) if text
            }
            self._encoded |= encode_each(self.lm.encode, sorted(whole))  # many at once, which is faster
            asked = [
                Instance("loglikelihood", request.doc, pair, request.idx)
                for request, pair in zip(requests, texts, strict=True)
            ]
            found = super().loglikelihood(asked, disable_tqdm=True)
        else:  # an empty prompt has a frame around it, which the harness's rule for such knows nothing of
            found = self._loglikelihood_tokens([(pair, *self._encode_pair(*pair)) for pair in texts])
        for request, pair in zip(requests, texts, strict=True):
            self.told[request.args] = self.told[pair]
        return found

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs = [Pair(tuple(before), tuple(after)) for _, before, after in requests]
        asked = [Choice(item, *texts) for item, (texts, _, _) in zip(self._item_ids, requests, strict=True)]
        cuts = [self.reader.cut(pair) for pair in checked(self.task, asked, pairs, self.lm)]
        scores = score_tokens(self.lm, [cut.pair for cut in cuts], self.state, self.progress)
        for (texts, _, _), cut, score in zip(requests, cuts, scores, strict=True):
            self.told[texts] = Told(cut.truncated, len(score.token_logprobs), score.argmax_match)
        return [(score.logprob, score.argmax_match) for score in scores]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Return the log-probability of each whole text."""
        texts = [request.args[0] for request in requests]
        read = read_prompts(self.lm, self.state, texts)
        windows = [
            self._windows(text) if text == whole else text_windows(self.reader, [text], self.state)[0]
            for text, whole in zip(texts, read, strict=True)
        ]
        scores = iter(score_tokens(self.lm, [p for some in windows for p in some], self.state, self.progress))
        found = []
        for text, some in zip(texts, windows, strict=True):
            score = joined([next(scores) for _ in some])
            self.told[text,] = Told(0, len(score.token_logprobs), score.argmax_match)
            found.append(score.logprob)
        return found

    def _windows(self, text: str) -> list[Pair]:
        ids = self.tok_encode(text, add_special_tokens=False)
        rolling = utils.get_rolling_token_windows(ids, self.prefix_token_id, self.lm.context, 1)
        parts = map(utils.make_disjoint_window, rolling)
        return [Pair(tuple(before), tuple(after)) for before, after in parts]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Return the greedy answer to each context; all requests of a task have the same settings."""
        settings = requests[0].args[1]
        most = settings["max_gen_toks"]
        contexts = read_prompts(self.lm, self.state, [request.args[0] for request in requests])
        encoded = [self._encode_prompt(context) for context in contexts]
        room = self.lm.context - most
        answers = answer_greedily(
            self.lm,
            [ids[-room:] for ids in encoded],
            most,
            settings["until"],
            sorted(self.reader.ends),
            self.state,
            self.progress,
        )
        for request, ids, answer in zip(requests, encoded, answers, strict=True):
            self.told[request.args[0],] = Told(max(0, len(ids) - room), finished=answer.finished)
        return [answer.text for answer in answers]

    def _encode_prompt(self, context: str) -> Sequence[int]:
        if self.reader.frame == PLAIN:
            return self.tok_encode(context) or self.reader.opening
        return self.reader.encode_prompts([context])[0]

    def output(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs of an item from what lm-evaluation-harness kept of it."""
        made = blank(sample["doc"]["item_id"])
        told = [
            self.told[tuple(text for text in args if isinstance(text, str))] for args in sample["arguments"]
        ]
        made["truncated"] = max(each.truncated for each in told)
        answers = [responses[0] for responses in sample["resps"]]
        if isinstance(answers[0], str):
            return made | {"text": answers[0], "finished": told[0].finished}
        return made | {
            "logprobs": [answer[0] if isinstance(answer, tuple) else answer for answer in answers],
            "n_tokens": [float(each.n_tokens) for each in told],
            "greedy": [each.greedy for each in told],
        }


class PreparedItems(HarnessTask):
    """Items that are prepared already, as a task of lm-evaluation-harness."""

    VERSION = 1

    def __init__(self, task: Asked, items: pd.DataFrame) -> None:
        self.OUTPUT_TYPE = REQUESTS[task.kind]
        self.settings = {"until": list(task.stop), "max_gen_toks": task.max_tokens, "do_sample": False}
        self.docs = items[["item_id", "prompt", "choices", "answers"]].to_dict("records")
        super().__init__(config={"task": task.name, "num_fewshot": 0, "generation_kwargs": self.settings})

    def download(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the items are here."""

    def has_training_docs(self) -> bool:
        """There are none."""
        return False

    def has_validation_docs(self) -> bool:
        """There are none."""
        return False

    def has_test_docs(self) -> bool:
        """All items."""
        return True

    def test_docs(self) -> list[dict[str, Any]]:
        """The items."""
        return self.docs

    def doc_to_text(self, doc: dict[str, Any]) -> str:
        """The prompt, with its examples."""
        return doc["prompt"]

    def doc_to_target(self, doc: dict[str, Any]) -> str:
        """Nothing: answers are judged elsewhere."""
        return ""

    def fewshot_context(self, doc: dict[str, Any], *args: Any, **kwargs: Any) -> str:
        """The prompt, with its examples."""
        return doc["prompt"]

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """One request for each choice, else one."""
        described = {"doc": doc, "metadata": kwargs["metadata"]}
        if self.OUTPUT_TYPE == "multiple_choice":
            return [
                Instance("loglikelihood", arguments=(ctx, choice), idx=i, **described)
                for i, choice in enumerate(doc["choices"])
            ]
        arguments = (ctx, self.settings) if self.OUTPUT_TYPE == "generate_until" else (doc["answers"][0],)
        return [Instance(self.OUTPUT_TYPE, arguments=arguments, idx=0, **described)]

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, float]:
        """No metrics: they are computed later, from the outputs."""
        return {}

    def aggregation(self) -> dict[str, Any]:
        """No metrics."""
        return {}

    def higher_is_better(self) -> dict[str, bool]:
        """No metrics."""
        return {}
