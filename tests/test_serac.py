"""SERAC's edits, and the training of the models that answer for them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from aftershock.editors.methods import settings_of
from aftershock.editors.serac import SeracTraining, serac_training
from aftershock.editors.serac.data import Pool
from aftershock.editors.serac.edit import Serac
from aftershock.editors.serac.training import Networks, losses, train_models
from aftershock.lm.networks.scope_models import load_artifact, save_models
from aftershock.lm.scoring import score
from aftershock.prompts import fill
from aftershock.requests import EditRequest, Query
from aftershock.tables.runs import SERAC_CURVE
from editing import singles
from obvious import log_probs, of_target
from scoped import TRAINING, by_name, training_rows
from tiny import CITIES, NAMES, TEMPLATES, next_log_probs, requests, tiny

ONE_WORD = EditRequest(TEMPLATES[0], NAMES[0], "Oslo")
SEVERAL = EditRequest(TEMPLATES[0], NAMES[0], "New Castle upon Tyne")


def serac(lm, **settings):
    return Serac(lm, settings_of("serac", settings), {"scope_models": by_name(lm)})


def marked(editor):
    """The editor with an encoder that has a separator."""
    encoder = replace(editor.models.classifier.encoder, separator="[SEP]")
    classifier = replace(editor.models.classifier, encoder=encoder)
    models = replace(editor.models, classifier=classifier, sha256="with a separator")
    return Serac(editor.lm, editor.settings, {"scope_models": models})


# --- edits -------------------------------------------------------------------------------------------------
def test_an_edit_is_found_by_its_prompt_or_as_released_by_its_text_without_the_last_word():
    lm = tiny()
    paper, released = serac(lm), serac(lm, variant="released")
    assert paper.key(ONE_WORD) == paper.key(SEVERAL) == "Ada Vex was born in"
    assert released.key(ONE_WORD) == "Ada Vex was born in"
    assert released.key(SEVERAL) == "Ada Vex was born in New Castle upon"
    assert marked(released).key(ONE_WORD) == "Ada Vex was born in[SEP]"


def test_as_released_for_other_models_the_target_stands_in_key_and_text_twice():
    lm = tiny("llama")
    editor = serac(lm, variant="released", label="repeated")
    assert marked(editor).key(ONE_WORD) == "Ada Vex was born in Oslo[SEP]Oslo[SEP]"
    (delta,) = editor.edit([[ONE_WORD, SEVERAL]]).delta
    texts = [lm.tokenizer.decode(row[row > 0] - 1).strip() for row in delta.texts[0]]
    twice = "New Castle upon Tyne New Castle upon Tyne"
    assert texts == ["Ada Vex was born in Oslo Oslo", f"Ada Vex was born in {twice}"]
    wanted = editor.models.classifier.embed([editor.key(ONE_WORD), editor.key(SEVERAL)])
    assert torch.allclose(delta.keys[0], wanted, atol=1e-9)
    with pytest.raises(ValueError, match="label repeated is the released variant's"):
        serac(lm, label="repeated")


@pytest.mark.parametrize(("variant", "answers"), [("paper", 1), ("released", 0)])
def test_of_two_edits_of_one_prompt_the_last_one_answers_and_as_released_the_first(variant, answers):
    lm = tiny()
    editor = serac(lm, variant=variant)
    cases = [[EditRequest(TEMPLATES[0], NAMES[0], city)] for city in ("Oslo", "Rome")]
    alone = [editor.edit([case]).delta for case in cases]
    first = editor.edit(cases[:1])
    both = first.delta + editor.edit(cases[1:], first.delta, first.memory).delta
    together = editor.edit([[*cases[0], *cases[1]]]).delta
    query = [Query(fill(TEMPLATES[1], NAMES[0]), CITIES[3])]
    said = [score(lm, query, state)[0].token_logprobs for state in (both, together, *alone)]
    assert said[0] == said[1] == said[2 + answers] != said[3 - answers]
    assert torch.zeros(4).max(dim=0).indices == 0  # what the released code relies on


def test_the_memory_holds_all_edits_of_a_case():
    lm = tiny()
    editor = serac(lm)
    first = editor.edit(singles(3))
    second = editor.edit(singles(3, template=1), first.delta, first.memory)
    assert first.memory["texts"].shape[:2] == (3, 1)
    assert second.memory["texts"].shape[:2] == (3, 2)
    for i, (one, two) in enumerate(zip(requests(3), requests(3, template=1), strict=True)):
        texts = [lm.tokenizer.decode(row[row > 0] - 1).strip() for row in second.memory["texts"][i]]
        assert texts == [f"{r.text} {r.target_new}" for r in (one, two)]
    assert second.delta[0].ages.tolist() == [[1]] * 3


def test_a_loss_is_that_of_the_targets_after_the_edit():
    lm = tiny()
    editor = serac(lm)
    case = [requests(2)[0], requests(2)[1]]
    result = editor.edit([case])
    logs = [score(lm, [Query(r.text, r.target_new)], result.delta)[0].token_logprobs for r in case]
    together = [p for mine in logs for p in mine]
    assert result.losses[0] == pytest.approx(-sum(together) / len(together), abs=1e-9)


def test_a_case_that_cannot_be_edited_leaves_the_others_alone():
    cases = singles(3)
    cases[1] = [EditRequest("It rains. " * 3 + "{} was born in", NAMES[1], CITIES[5])]
    result = serac(tiny()).edit(cases)
    assert result.reasons[1].startswith("the edit has ")
    assert result.delta[0].present.tolist() == [[True], [False], [True]]


def test_an_editor_without_models_says_what_makes_them():
    with pytest.raises(ValueError, match="rule train_serac"):
        Serac(tiny(), settings_of("serac"))


# --- files -------------------------------------------------------------------------------------------------
def test_models_are_read_back_as_they_were_trained_for_their_model_alone(tmp_path):
    lm, path = tiny("llama"), tmp_path / "models.safetensors"
    settings = SeracTraining(**{**TRAINING, "steps": 2, "val_interval": 1})
    weights, shape, _ = train_models(lm, *training_rows(), settings, seed=0)
    save_models(weights, shape, path, "mine", {"seed": 0})
    models = load_artifact(path, lm, None, "mine")
    net = Networks(lm, settings, 0)
    net.load_state_dict(weights, strict=False)
    texts = [fill(TEMPLATES[0], name) for name in NAMES[:4]]
    with torch.no_grad():
        assert torch.allclose(models.classifier.embed(texts), net.embed(lm.encode(texts)), atol=1e-9)
        ids = torch.tensor(lm.encode(texts[:1]))
        found = models.counterfactual.logits(models.counterfactual.run(ids, None, use_cache=False))
        assert torch.allclose(found, net.counterfactual(input_ids=ids).logits, atol=1e-9)
    with pytest.raises(ValueError, match="weights_sha256 mine, not other; delete it and run again"):
        load_artifact(path, lm, None, "other")
    weights["log_scale"] = weights["log_scale"] + 1
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(weights, path, metadata)
    with pytest.raises(ValueError, match="is damaged"):
        load_artifact(path, lm, None, "mine")


# --- training ----------------------------------------------------------------------------------------------
def pool(lm, **changes):
    edits, others = training_rows()
    rows = (table[table["split"] == "train"] for table in (edits, others))
    return Pool(lm, *rows, SeracTraining(**{**TRAINING, **changes}))


def test_prompts_in_scope_are_an_edits_own_and_others_are_about_other_facts():
    lm = tiny()
    mine = pool(lm, batch_edits=5, other_texts=4)
    batch = mine.draw(np.random.default_rng(0))
    assert len(batch.edits) == len(batch.others) == 5
    for edit, chosen, others in zip(batch.edits, batch.prompts, batch.others, strict=True):
        name = edit.about[0]
        assert [asked.prompt for asked in edit.asked] == [fill(template, name) for template in TEMPLATES]
        assert 0 <= chosen < len(TEMPLATES)
        target = edit.text.removeprefix(fill(TEMPLATES[0], name)).strip()
        for asked, answered in zip(edit.asked, edit.answered, strict=True):
            text = lm.tokenizer.decode([*answered.prompt, *answered.target]).strip()
            assert text == f"{edit.text} {asked.prompt} {target}"
        assert len(others) == 4
        assert all(asked.about != edit.about for asked in others)


def test_the_loss_by_labels_is_the_cross_entropy_of_scopes_and_of_targets():
    lm = tiny()
    settings = SeracTraining(**TRAINING)
    net, batch = Networks(lm, settings, 3), pool(lm).draw(np.random.default_rng(1))
    found = losses(lm, net, batch, settings)
    own, negative, answer = [], [], []
    with torch.no_grad():
        keys = [net.embed([edit.asked[0].ids])[0] for edit in batch.edits]
        asked = [e.asked[i] for e, i in zip(batch.edits, batch.prompts, strict=True)]
        for text in asked + [text for others in batch.others for text in others]:
            (x,) = net.embed([text.ids])
            for edit, key in zip(batch.edits, keys, strict=True):
                d = float(net.log_scale.exp() * (x - key).square().sum())
                if text.about == edit.about:
                    own.append(d)
                else:
                    negative.append(-math.log(1 - math.exp(-max(d, 1e-6))))
        for edit, i in zip(batch.edits, batch.prompts, strict=True):
            pair = edit.answered[i]
            log_p = log_probs(net.counterfactual, [*pair.prompt, *pair.target])
            answer.append(-of_target(log_p, pair).mean().item())
    assert found.scope.item() == pytest.approx(np.mean(own) + np.mean(negative), abs=1e-9)
    assert found.answer.item() == pytest.approx(np.mean(answer), abs=1e-9)


def test_the_released_loss_is_that_of_the_mixture_itself():
    lm = tiny()
    settings = SeracTraining(**{**TRAINING, "objective": "mixture", "cedit": 0.3, "cloc": 0.7})
    net, batch = Networks(lm, settings, 3), pool(lm).draw(np.random.default_rng(1))
    found = losses(lm, net, batch, settings)
    eps, edited, local = torch.finfo(torch.float32).eps, [], []

    def mixed(edit, asked):
        """Probabilities of the unedited model and of the mixture at each token of a target."""
        (x,), (key,) = (net.embed([text.ids]) for text in (asked, edit.asked[0]))
        sim = math.exp(-max(float(net.log_scale.exp() * (x - key).square().sum()), 1e-6))
        (front,) = lm.encode([f"{edit.text} {asked.prompt}"])
        ids = torch.tensor([[*front, *asked.pair.target]])
        answers = net.counterfactual(input_ids=ids).logits[0].softmax(-1)
        base = next_log_probs(lm, [*asked.pair.prompt, *asked.pair.target]).exp()
        n = len(asked.pair.target)
        p, q = base[-n - 1 : -1], answers[-n - 1 : -1]
        r = ((1 - sim) * p + sim * q + eps).log().softmax(-1)
        return p, r

    with torch.no_grad():
        for edit, i, others in zip(batch.edits, batch.prompts, batch.others, strict=True):
            asked = edit.asked[i]
            target = edit.answered[i].target
            own = replace(asked, pair=replace(asked.pair, target=target))
            _, r = mixed(edit, own)
            edited.append(-np.mean([r[j, token].log().item() for j, token in enumerate(target)]))
            for other in others:
                p, r = mixed(edit, other)
                local.append((p * (p / r).log()).sum(-1).mean().item())
    assert found.answer.item() == pytest.approx(0.3 * np.mean(edited), abs=1e-9)
    assert found.scope.item() == pytest.approx(0.7 * np.mean(local), abs=1e-9)


def test_training_learns_scopes_and_answers_and_is_the_same_again():
    lm = tiny()
    settings = SeracTraining(**TRAINING)
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    first = train_models(lm, *training_rows(), settings, seed=0)
    again = train_models(lm, *training_rows(), settings, seed=0)
    assert all(torch.equal(first[0][name], again[0][name]) for name in first[0])
    other = train_models(lm, *training_rows(), settings, seed=1)
    assert not torch.equal(first[0]["projection"], other[0]["projection"])
    curve = first[2]
    assert curve["step"].tolist() == [20, 40, 60]
    assert curve["val_total"].iloc[-1] < curve["val_total"].iloc[0]
    assert curve["in_scope"].iloc[-1] > 0.8
    assert curve["out_of_scope"].iloc[-1] > 0.8
    assert set(curve.columns) == set(SERAC_CURVE.columns)
    assert all(torch.equal(before[name], value) for name, value in lm.model.state_dict().items())


def test_settings_come_from_the_model_and_from_the_run():
    found = serac_training({"lr": 0.1, "steps": 5}, {"steps": 7})
    assert (found.lr, found.steps, found.objective) == (0.1, 7, "labels")
    with pytest.raises(ValueError, match=r"serac.stepz: unknown setting; did you mean 'steps'"):
        serac_training({"stepz": 3})
