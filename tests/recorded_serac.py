"""Our SERAC on the recorded cases: which edit answers, how surely, and what comes out.

The recorded texts are whole, so each is taken for a prompt. Scores are recorded at all of its positions:
those of the counterfactual model are at the last ones of its own text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from aftershock.editors.methods import settings_of
from aftershock.editors.serac.edit import EPSILON, Serac
from aftershock.lm.edits import Batch
from aftershock.lm.edits.routed import SWITCH, Routed, Router, mixture
from aftershock.lm.networks.scope import ScopeClassifier
from aftershock.lm.networks.scope_models import ScopeModels, beside
from aftershock.lm.outputs import Read
from recorded import CLOSED_FORM, EXACT, LOGPROB, Check, NotCoveredError, Recorded, absolute, relative

KNOWN = {"name", "soft", "square", "cos", "scale", "test", "input_ids", "sim", "idx", "rep_input_ids"}
KNOWN |= {"cls_cache", "rep_cache", "stats", "heads", "dist_heads", "bound", "bound_embeds"}
"""All that a recorded output says, or may say."""
CUT = ("gpt", "llama", "baihcuan")
"""Parts of the names of models whose labels the release cuts off its keys."""


@dataclass(frozen=True)
class FirstToken:
    """The hidden state of an encoder at its first token."""

    model: Any
    tokenizer: PreTrainedTokenizerFast

    @property
    def separator(self) -> str:
        return self.tokenizer.sep_token

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        read = self.tokenizer(list(texts), return_tensors="pt", padding=True)
        return self.model(**read).last_hidden_state[:, 0]


def encoder_of(case: Recorded) -> FirstToken:
    """The recorded encoder, with the tokenizer of the model and three tokens more."""
    config = dict(case.inputs["classifier_config"])
    model = AutoModel.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    found = model.load_state_dict(case.part("classifier"), strict=False)
    if wrong := [name for name in (*found.missing_keys, *found.unexpected_keys) if "pooler" not in name]:
        raise NotCoveredError(f"classifier weights {', '.join(wrong)}")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(case.root / case.inputs["model"] / "tokenizer.json"))
    )
    names = {"sep": "[SEP]", "cls": "[CLS]", "pad": "[PAD]"}
    tokenizer.add_special_tokens({f"{name}_token": text for name, text in names.items()})
    special = case.inputs["cls_tok_special"]
    assert {name: tokenizer.convert_tokens_to_ids(text) for name, text in names.items()} == special
    return FirstToken(model.eval(), tokenizer)


def models_of(case: Recorded, encoder: FirstToken, output: dict[str, Any]) -> ScopeModels:
    """The recorded models, with the distance of one output."""
    counterfactual = AutoModelForCausalLM.from_config(case.lm.model.config)
    found = counterfactual.load_state_dict(case.part("replacement"), strict=False)
    assert not found.unexpected_keys
    assert set(found.missing_keys) <= {"lm_head.weight"}
    counterfactual.tie_weights()
    classifier = ScopeClassifier(
        encoder,
        torch.tensor(output["scale"]),
        distance="cosine" if output["cos"] else "square" if output["square"] else "plain",
        heads=output.get("dist_heads", output.get("heads", 1)),
        bound=output.get("bound_embeds", output.get("bound", False)),
    )
    return ScopeModels(classifier, beside(case.lm, counterfactual), output["name"])


def check_serac(case: Recorded) -> Iterator[Check]:
    """Every recorded text in turn."""
    lm, encoder = case.lm, encoder_of(case)
    cut = any(name in case.inputs["model"].lower() for name in CUT)
    for output in case.outputs:
        if unknown := set(output) - KNOWN:
            raise NotCoveredError(", ".join(sorted(unknown)))
        models, name = models_of(case, encoder, output), output["name"]
        mixing, label = "soft" if output["soft"] else "hard", "cut" if cut else "repeated"
        settings = settings_of("serac", {"variant": "released", "mixing": mixing, "label": label})
        editor = Serac(lm, settings, {"scope_models": models})
        delta, *_ = editor.edit([case.requests]).delta
        yield Check("keys", float([editor.key(r) for r in case.requests] != output["cls_cache"]), EXACT)
        logs = models.classifier.log_similarity(models.classifier.embed([output["test"]]), delta.keys[0])
        yield Check("log_sims", relative(logs, case.tensors[f"{name}.log_sims"][0]), CLOSED_FORM)
        yield from check_output(case, delta, output)


def check_output(case: Recorded, delta: Routed, output: dict[str, Any]) -> Iterator[Check]:
    """The route of one text, the scores at all of its positions, and those that a pass gives at its end."""
    lm, models, name = case.lm, delta.models, output["name"]
    ids = torch.tensor(output["input_ids"])
    batch = Batch.of_prompts(ids, torch.ones_like(ids), torch.zeros(1, dtype=torch.long))
    router = Router(lm, batch, delta)
    (route,) = router.routes
    cached = models.counterfactual.tokenizer.decode((delta.texts[0, output["idx"]] - 1).clamp(min=0))
    yield Check("edit chosen", float(not cached.startswith(route.text)), EXACT)
    yield Check("sim", abs(torch.tensor(route.log_similarity).exp().item() - output["sim"]), CLOSED_FORM)
    (read,) = models.counterfactual.encode([f"{route.text} {router.prompts[0]}"])
    yield Check("counterfactual tokens", float([read] != output["rep_input_ids"]), EXACT)
    with torch.no_grad():
        base = lm.logits(lm.run(ids, None, use_cache=False))[0]
        answers = models.counterfactual.logits(
            models.counterfactual.run(torch.tensor([read]), None, use_cache=False)
        )[0, -ids.shape[1] :]
    sims = torch.full((len(base),), route.log_similarity, dtype=torch.float64)
    if output["soft"]:
        found = mixture(base, answers, sims, EPSILON)
    else:
        found = answers if output["sim"] > SWITCH else base
    wanted = case.tensors[f"{name}.mix_logits"][0]
    yield Check("mix_logits", absolute(found.log_softmax(-1), wanted.log_softmax(-1)), LOGPROB)
    with torch.no_grad(), delta.attach(lm, batch):
        last = lm.logits(lm.run(ids, None, use_cache=False)[:, -1], lambda: Read([0], [()]))
    yield Check(
        "mix_logits of a pass", absolute(last[0].log_softmax(-1), wanted[-1].log_softmax(-1)), LOGPROB
    )
