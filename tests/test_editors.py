"""The algebra of each method, contexts and settings."""

import json

import pytest
import torch

from aftershock.editors import fine_tuning, previous_keys
from aftershock.editors.contexts import sample_contexts
from aftershock.editors.ft import FtSettings
from aftershock.editors.memit import MemitSettings
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.rome import RomeSettings
from aftershock.editors.settings import as_values, merge
from aftershock.lm import memory
from aftershock.lm.edits import join, select
from aftershock.lm.hooks import record_activations
from aftershock.lm.texts.tokens import locate
from aftershock.prompts import fill
from aftershock.requests import EditRequest
from editing import REMEMBER, chosen, close, make, singles
from tiers import some
from tiny import CITIES, NAMES, TEMPLATES, next_log_probs, requests, tiny


def test_rome_edits_layers_from_the_lowest_up():
    lm = tiny()
    one, two = (make("rome", lm, layers=layers).edit([requests(1)]).delta for layers in ([0, 2], [2, 0]))
    assert all(torch.equal(a.dense(), b.dense()) for a, b in zip(one, two, strict=True))


def test_keys_and_outputs_told_are_those_that_are_written():
    lm, request = tiny(), requests(1)[0]
    module, seen = lm.projection(0), []
    for context in ("{}", "It rains. {}"):
        (prompt,) = locate(lm, [(fill(context, request.prompt), request.subject)])
        with record_activations(lm, inputs=[module], outputs=[module]) as found:
            next_log_probs(lm, prompt.ids)
        seen.append([found[end, module][0, prompt.subject] for end in ("in", "out")])
    plain, mean = seen[0], [torch.stack(both).mean(dim=0) for both in zip(*seen, strict=True)]
    for method, changes, (k, o) in (
        ("rome", {}, plain),
        ("r_rome", {"keys": "prompt"}, plain),
        ("r_rome", {"keys": "averaged"}, mean),
    ):
        result = make(method, lm, [["{}"], ["It rains. {}"]], layers=[0], **changes).edit([[request]])
        told, change = result.diagnostics[0], result.delta[0].dense()[0]
        assert torch.allclose(told["k0"][0], k, atol=1e-9)
        assert torch.allclose(told["o0"][0], o, atol=1e-9)
        right = (told["v"][0] - o) / (k @ told["u"][0])
        assert torch.allclose(told["right"][0], right, atol=1e-9)
        if method == "r_rome":  # which writes v* at the very key that it divides by
            written = lm.weight(module) @ told["k"][0] + lm.bias(module) + change @ told["k"][0]
            assert torch.allclose(written, told["v"][0])


VARIANTS, TRAINED = ("paper", "released"), ("mlp_out", "layer")
LAYER = {"layers": [1], "steps": 3, "lr": 0.01, "batch_size": 2}
SITES = {"layers": [0, 2], "modules": {"gate": [2], "out": None}, "batch_size": 2}
WAYS = ("joint", "mean", "sequential")
UNEVEN = [
    ("ft", {"steps": 6, "batch_size": 2}, 1e-6),
    *(("locft", LAYER | {"variant": v, "parameters": p}, 1e-7) for v in VARIANTS for p in TRAINED),
    *(("ultraedit", SITES | {"variant": variant}, 1e-9) for variant in VARIANTS),
    ("pmet", {"layers": [0, 1], "mom2_weight": 0.5, "modules": ("attention", "mlp")}, 1e-9),
]
"""Methods that take requests in turns, mini-batches or modules, and how near their changes are."""
KNOWING = [(method, own | {"multi_label": way}, 1e-6) for way in WAYS for method, own in REMEMBER.items()]
"""Methods that know the keys of earlier edits."""


@pytest.mark.parametrize(("method", "changes", "tolerance"), [*UNEVEN, *some(KNOWING, KNOWING[::4])])
def test_cases_of_any_size_side_by_side_equal_one_at_a_time(method, changes, tolerance, monkeypatch):
    """Each case also has a memory of its own, in each form that this has."""
    if method == "ft":
        monkeypatch.setattr(fine_tuning, "ENOUGH", 5.0)  # so that cases end at steps of their own
    editor = make(method, tiny("llama" if method == "ultraedit" else "gpt2"), **changes)
    cases = [requests(5), requests(4, template=1), requests(2), requests(7, template=2)]
    for share in (previous_keys.SHARE, 1000) if method in REMEMBER else (0,):
        monkeypatch.setattr(previous_keys, "SHARE", share)
        first = editor.edit(cases[::-1])
        together = editor.edit(cases, first.delta, first.memory)
        for i, case in enumerate(cases):
            alone = editor.edit([case], select(first.delta, [i]), chosen(first.memory, [i]))
            assert close(join(select(together.delta, [i])), join(alone.delta), tolerance), i
            assert alone.losses[0] == pytest.approx(together.losses[i], abs=1e-9)
            assert alone.steps[0] == together.steps[i]
            if method == "ultraedit":
                assert alone.losses[0] == pytest.approx(together.losses[i], abs=1e-12)
                for name, kept in alone.memory.items():
                    mine = together.memory[name][i]
                    assert torch.allclose(kept[0], mine, rtol=1e-10, atol=0, equal_nan=True)


def test_ft_divides_cases_by_memory(monkeypatch):
    lm = tiny()
    whole = make("ft", lm).edit(singles(5))
    editor = make("ft", lm)
    monkeypatch.setattr(memory, "CPU_BYTES", 3 * max(editor._size(case)[1] for case in singles(5)))
    parts = editor.edit(singles(5))
    assert len(parts.diagnostics) == 2
    assert close(parts.delta, whole.delta)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-6)


def test_multi_label_editing_moves_to_the_mean_of_the_values():
    lm = tiny()
    case = [EditRequest(TEMPLATES[0], NAMES[0], city) for city in CITIES[:4]]
    result = make("memit", lm, layers=[0], mom2_weight=1e-6).edit([case])
    z, h = result.diagnostics[0]["z"].mean(dim=0), result.diagnostics[1]["hidden"][0]
    k = result.diagnostics[1]["K"][0, 0]
    # with equal keys and little weight on the moments, the key is mapped to the mean of the values
    assert torch.allclose(result.delta[0].dense()[0] @ k, z - h, rtol=1e-4, atol=1e-5)


# --- contexts and settings ---------------------------------------------------------------------------------
def test_contexts_are_sampled_by_seed_and_hold_one_slot():
    lm = tiny()
    kinds = sample_contexts(lm, ["The", "It {"], [(6, 2), (9, 1)], seed=3)
    assert [len(kind) for kind in kinds] == [1, 4, 2]
    assert kinds[0] == ["{}"]
    assert all(text.endswith(". {}") and text.count("{") == 1 for kind in kinds[1:] for text in kind)
    assert kinds == sample_contexts(lm, ["The", "It {"], [(6, 2), (9, 1)], seed=3)
    assert kinds != sample_contexts(lm, ["The", "It {"], [(6, 2), (9, 1)], seed=4)
    assert sample_contexts(lm, [], [], seed=0) == [["{}"]]
    assert len(sample_contexts(lm, [], [(5, 3)], seed=0)[1]) == 3


def test_settings_are_overridden_layer_by_layer_and_checked_at_once():
    found = settings_of("rome", {"lr": 0.1, "layers": [3]}, {"lr": 0.2})
    assert (found.lr, found.layers, found.steps) == (0.2, (3,), RomeSettings().steps)
    assert merge(RomeSettings, "rome", as_values(found)) == found
    assert (
        merge(MemitSettings, "memit", json.loads(json.dumps(as_values(MemitSettings())))) == MemitSettings()
    )
    with pytest.raises(ValueError, match=r"rome.steps: .*found 0; rome.v_lr: .*did you mean 'lr'"):
        merge(RomeSettings, "rome", {"v_lr": 1.0, "steps": 0})
    with pytest.raises(
        ValueError, match=r"unknown editing method 'rom'; did you mean 'rome'. known methods: (\w+, )+rome"
    ):
        method_of("rom")
    with pytest.raises(ValueError, match="ft.objective"):
        merge(FtSettings, "ft", {"objective": "both"})


RELEASED = {"variant": "released"}
BRACES = r"in_context.statement: .*needs \{fact\} exactly once"
CUTOFF = "memit.prob_cutoff"
OPENING = {"layers": [1], "base_settings": {"steps": 6}}
REFUSED = [
    ("grace", "gpt2", {"layers": [0, 1]}, "grace.layers: exactly one layer is edited"),
    ("grace", "gpt2", {"layers": [1], "max_entries": 2, "eps": 1e-3}, "has 2 entries already.* max_entries"),
    ("memoir", "gpt2", RELEASED, r"cannot hold a memory beside .* stored \(d_in, d_out\)"),
    ("memoir", "llama", {"top_k": 41}, "top_k 41 is more than the 40 inputs of"),
    ("memoir", "llama", {"layers": [0, 1]}, "memoir.layers: exactly one layer"),
    ("memoir", "llama", {"max_edits": 2}, "2 edited prompts already, as many as max_edits allows; raise it"),
    ("wise", "gpt2", {"layers": [0, 1]}, "wise.layers: exactly one layer"),
    ("wise", "gpt2", RELEASED | {"save_freq": 2}, "cannot use a second memory of .*a Conv1D"),
    ("wise", "llama", {"save_freq": 1, "max_memories": 2}, "after 2 edits a model has 3 memories, more than"),
    ("simie", "gpt2", OPENING | {"base": "grace"}, "grace is no method that changes weights of chosen"),
    ("simie", "gpt2", OPENING | {"base": "simie"}, "simie is no method that"),
    ("simie", "gpt2", OPENING | {"base": "memitt"}, "unknown editing method 'memitt'; did you mean 'memit'"),
    ("simie", "gpt2", {"base_settings": {"stepz": 3}}, "stepz: unknown setting; did you mean 'steps'"),
    (
        *("simie", "gpt2", {"base": "ultraedit", "base_settings": {"modules": {"in": None}}}),
        "only MLP output matrices can be",
    ),
    ("in_context", "gpt2", {"statement": "It is so."}, BRACES),
    ("in_context", "gpt2", {"statement": "{fact} or {fact}"}, BRACES),
    ("memit", "gpt2", {"prob_cutoff": -0.5}, CUTOFF),
    ("memit", "gpt2", {"prob_cutoff": 1.0}, CUTOFF),
    ("memit", "gpt2", {"prob_cutoff": 3}, CUTOFF),
    ("pmet", "gpt2", {"modules": []}, r"pmet.modules: .*found"),
    ("pmet", "gpt2", {"modules": ["mlp", "mlp"]}, r"pmet.modules: .*twice"),
    (
        *("locft", "apertus", {"layers": [1], "parameters": "layer"}),
        "alpha_p, which is neither weight nor bias.*parameters: mlp_out",
    ),
]
"""Methods on families with settings that do not fit, and what is said of these."""


@pytest.mark.parametrize(("method", "family", "changes", "said"), REFUSED)
def test_settings_that_do_not_fit_are_refused(method, family, changes, said):
    with pytest.raises(ValueError, match=said):
        make(method, tiny(family), **changes).edit([requests(3)])
