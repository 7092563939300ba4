"""UltraEdit: rows, normaliser and solve against slow, obvious code; variants, modules, warm-up."""

import math
from functools import partial
from itertools import product

import pytest
import torch

from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.sites import modules_at
from aftershock.editors.statements import draw_others
from aftershock.editors.ultraedit.edit import solve_dual, solve_primal
from aftershock.editors.ultraedit.normaliser import EPS, Rows, Statistics
from aftershock.lm.texts.tokens import Pair
from editing import close, make
from obvious import in_batches, log_probs, off
from test_fine_tuning import LLAMA
from test_fine_tuning import begun as with_beginning
from tiers import some
from tiny import ROUNDING, requests, tiny, written

ALL = {"in": None, "out": None}
PORT = [("gpt2", "all"), ("begun", "all")]
"""Families of EasyEdit's port; the second one's tokenizer begins every text, targets too."""
DIFFERENT = 0.75
"""Relative difference of the two variants' changes."""


def random_rows(sizes, d_in, d_out, seed=0):
    """A block of rows for each of `sizes`, (case, number of rows)."""
    g = torch.Generator().manual_seed(seed)
    n = sum(size for _, size in sizes)
    cases = torch.tensor([case for case, size in sizes for _ in range(size)])
    blocks = torch.tensor([i for i, (_, size) in enumerate(sizes) for _ in range(size)])
    h, x = (torch.randn(n, d, generator=g, dtype=torch.float64) * 3 + 1 for d in (d_in, d_out))
    return Rows(h, x, cases, blocks)


def nothing(shape, cases=1, full=False):
    """The statistics of a normaliser that has seen nothing."""
    return Statistics.read({}, shape, cases, full, torch.device("cpu"))


def block_by_block(blocks, n, mean, M):
    """The recursion as it is written down, one block after the other."""
    for x in blocks:
        b = len(x)
        d = x.mean(dim=0) - mean
        variance = x.var(dim=0, unbiased=True) if b > 1 else torch.zeros_like(mean)
        M = M + b * variance + n * b / (n + b) * d**2
        mean, n = mean + b * d / (n + b), n + b
    return n, mean, M


# --- the normaliser ----------------------------------------------------------------------------------------
def test_a_lone_row_adds_its_distance_from_the_mean_or_nan():
    shape = (2, 2)
    seen = nothing(shape).observe(random_rows([(0, 3)], *shape))
    lone = random_rows([(0, 1)], *shape, seed=2)
    after = seen.observe(lone)
    assert torch.allclose(after.M[0], seen.M[0] + 3 / 4 * (lone.x[0] - seen.mean[0]) ** 2, rtol=1e-12)
    poisoned = seen.observe(lone, lone=math.nan)
    assert poisoned.M.isnan().all()
    assert poisoned.observe(random_rows([(0, 5)], *shape)).M.isnan().all()


def test_the_only_row_ever_seen_is_divided_by_its_own_size():
    rows = random_rows([(0, 1)], 4, 3)
    seen = nothing((4, 3)).observe(rows)
    for raw, normal in zip((rows.h, rows.g), seen.normalise(rows), strict=True):
        assert torch.allclose(normal, raw / raw.square().mean().sqrt(), rtol=1e-6)


def test_gradients_are_whitened_once_there_are_more_rows_than_entries():
    shape = d_in, d_out = 4, 3
    empty = nothing(shape, full=True)
    few = random_rows([(0, 2), (0, 2)], *shape)
    seen = empty.observe(few, biased=True)
    assert torch.equal(seen.normalise(few, whiten=True)[1], seen.normalise(few)[1])
    rows = random_rows([(0, 6), (0, 1), (0, 5)], *shape)
    seen = empty.observe(rows, biased=True)
    centred = rows.g - rows.g.mean(dim=0)
    covariance = centred.T @ centred
    assert torch.allclose(seen.Q[0], covariance, rtol=1e-10)
    assert torch.allclose(seen.M[0, d_in:], covariance.diagonal(), rtol=1e-10)
    values, vectors = torch.linalg.eigh(covariance / (12 - d_out - 1))
    wanted = centred @ vectors @ torch.diag(values**-0.5) @ vectors.T
    assert torch.allclose(seen.normalise(rows, whiten=True)[1], wanted, rtol=1e-9)


# --- the solve ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("rows", "ridge"), [(5, 1.0), (40, 1.0), (5, 10.0)])
def test_the_dual_form_equals_the_primal_one(rows, ridge):
    g = torch.Generator().manual_seed(0)
    H, V = (torch.randn(2, rows, d, generator=g, dtype=torch.float64) for d in (12, 7))
    assert off(H.mT @ solve_dual(H, V, ridge), solve_primal(H, V, ridge)) < 1e-9
    H[0, 3:], V[0, 3:] = 0.0, 0.0  # of a case with fewer rows
    assert torch.allclose(H.mT @ solve_dual(H, V, ridge), solve_primal(H, V, ridge), rtol=1e-9, atol=1e-14)


# --- edits -------------------------------------------------------------------------------------------------
def slow(lm, case, settings, modules, memory=None):
    """One turn, row by row: autograd on the plain model, the recursion, and the paper's d_in unknowns."""
    prompts, targets = lm.encode([r.text for r in case]), lm.encode_targets([r.target_new for r in case])
    pairs = [Pair(tuple(prompt), tuple(target)) for prompt, target in zip(prompts, targets, strict=True)]
    port = settings.rows == "all"
    if not port:
        pairs.sort(key=lambda pair: len(pair.prompt) + len(pair.target), reverse=True)
    front = lm.tokenizer("")["input_ids"] if port else []
    rows = {module: [] for module in modules}  # a block for each mini-batch
    for batch in in_batches(pairs, settings.batch_size):
        seen = {m: [] for m in modules}

        def keep(module, args, output, kept):
            output = output if output.requires_grad else output.detach().requires_grad_()
            output.retain_grad()
            kept.append((args[0], output))
            return output

        hooks = {m: partial(keep, kept=kept) for m, kept in seen.items()}
        width = max(len(front) + len(pair.target) for pair in batch)
        loss, count = 0.0, len(batch) * width if port else sum(len(pair.target) for pair in batch)
        with torch.enable_grad():
            for pair in batch:
                log_p = log_probs(lm.model, [*pair.prompt, *pair.target], hooks)
                label = [*front, *pair.target]
                label = [lm.pad_id] * (width - len(label)) + label if port else label
                for t, token in enumerate(reversed(label), 1):  # the last one where the last token is read
                    loss = loss - log_p[len(pair.prompt) - 1 + len(pair.target) - t, token] / count
        loss.backward()
        for m in modules:
            found = []
            for pair, (x, out) in zip(batch, seen[m], strict=True):
                end = len(pair.prompt) - 1 + len(pair.target)
                at = slice(0 if port else len(pair.prompt) - 1, end + port)
                found.append(torch.cat([x[0, at], out.grad[0, at]], dim=1).detach().double())
            rows[m].append(torch.cat(found))
    seen, changes = dict(memory or {}), {}
    for i, m in product(range(math.ceil(len(case) / settings.batch_size)), modules):
        shape = tuple(lm.weight(m).shape)
        zero = torch.zeros(sum(shape), dtype=torch.float64)
        seen[shape] = block_by_block([rows[m][i]], *seen.get(shape, (0, zero, zero)))
    for m in modules:
        d_out, d_in = lm.weight(m).shape
        n, mean, M = seen[d_out, d_in]
        x = torch.cat(rows[m])
        normal = (x - mean) / ((M / (n - 1 + EPS)).sqrt() + EPS)
        V = torch.stack([-settings.lr * row[:d_in].square().sum() * row[d_in:] for row in normal])
        H = x[:, :d_in]
        left = H.T @ H + torch.eye(d_in, dtype=H.dtype)
        changes[m] = torch.linalg.solve(left, H.T @ V).T
    return changes, seen


@pytest.mark.parametrize(
    ("family", "rows"),
    some(
        [*((name, "target") for name in ("gpt2", "llama", "gptj", "phi3", "gemma2")), *PORT],
        [("gpt2", "target"), ("gemma2", "target"), *PORT],
    ),
)
def test_an_edit_is_the_formula_on_the_model_itself(family, rows):
    lm = with_beginning("llama2", LLAMA) if family == "begun" else tiny(family)
    editor = make("ultraedit", lm, layers=[0, 2], modules=ALL, batch_size=3, rows=rows)
    seen, state, memory, edited = {}, (), None, lm
    rounding = max(ROUNDING[lm.model.config.model_type], 1e-8)
    for case in (requests(7), requests(5, template=1)):
        known = seen if rows == "target" else None  # the port forgets
        changes, seen = slow(edited, case, editor.settings, editor.modules, known)
        result = editor.edit([case], state, memory)
        for delta in result.delta:
            assert off(delta.dense()[0], changes[delta.module]) < rounding, delta.module
        state, memory = (*state, *result.delta), result.memory
        edited = written(lm, state, 0)
        for (d_out, d_in), wanted in seen.items() if rows == "target" else ():
            for name, value in zip(("n", "mean", "M"), wanted, strict=True):
                kept = memory[f"{d_in}x{d_out}.{name}"][0]
                assert torch.allclose(kept, torch.as_tensor(value).to(kept), rtol=1e-9), name


def one_token(lm):
    """Requests whose targets have one token."""
    return [r for r in requests(8) if len(lm.encode_targets([r.target_new])[0]) == 1]


def test_a_last_mini_batch_that_is_not_full_keeps_its_gradients_in_the_paper_only():
    lm, case = tiny("llama"), requests(7)

    def both(batch_size):
        editors = (
            make("ultraedit", lm, layers=[1], batch_size=batch_size, variant=v) for v in ("paper", "released")
        )
        return [editor.edit([case]) for editor in editors]

    paper, released = both(4)
    assert paper.reasons == released.reasons == (None,)
    (a,), (b,) = paper.delta, released.delta
    difference = ((a.dense() - b.dense()).norm() / a.dense().norm()).item()
    assert difference == pytest.approx(DIFFERENT, abs=0.005)  # the docstring of the editor says so
    assert all(torch.equal(kept, released.memory[name]) for name, kept in paper.memory.items())
    assert close(*(result.delta for result in both(7)), 1e-12)


def test_a_block_of_one_row_fails_for_good_in_the_released_variant_only():
    lm = tiny()
    lone = one_token(lm)[:1]
    case = [*[r for r in requests(8) if r not in one_token(lm)][:2], *lone]
    paper, released = (
        make("ultraedit", lm, layers=[1], batch_size=2, variant=v).edit([case, requests(4)])
        for v in ("paper", "released")
    )
    assert paper.reasons == (None, None)
    assert released.reasons[0].startswith("the normaliser is nan for good")
    assert released.reasons[1] is None
    assert not released.delta[0].dense()[0].any()
    editor = make("ultraedit", lm, layers=[1], batch_size=2, variant="released")
    later = editor.edit([requests(4), requests(4)], released.delta, released.memory)
    assert [reason is None for reason in later.reasons] == [False, True]


# --- modules and warm-up -----------------------------------------------------------------------------------
def test_modules_are_named_by_their_place():
    lm = tiny("llama")
    names = "model.layers.{}.mlp.{}_proj"
    assert modules_at(lm, {"gate": [1], "out": None}, [2, 1]) == [
        names.format(1, "gate"),
        names.format(1, "down"),
        names.format(2, "down"),
    ]
    assert modules_at(lm, {"in": None}, [0]) == [names.format(0, site) for site in ("gate", "up")]
    attention = modules_at(lm, {"attention": None}, [0])
    assert [name.rsplit(".", 1)[1] for name in attention] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    with pytest.raises(ValueError, match="gpt2 model have no gate, up; they have attention, in, out"):
        modules_at(tiny(), {"gate": None, "up": [0]}, [0])
    with pytest.raises(ValueError, match=r"name no module in layers \[0, 1\]; `layers` has to hold every"):
        modules_at(lm, {"gate": [2]}, [0, 1])


def warmed(lm, others, warm_up=4):
    """An editor whose normalisers have seen some of `others`."""
    settings = settings_of("ultraedit", {"layers": [0, 1], "lr": 0.01, "warm_up": warm_up})
    return method_of("ultraedit").make(lm, settings, {"other_edits": others})


def test_a_warm_up_is_an_edit_of_other_cases_of_which_only_the_statistics_stay():
    lm, cases, others = tiny(), [[request] for request in requests(3)], requests(7, template=1)
    editor, plain = warmed(lm, others), warmed(lm, [], 0)
    first = editor.edit(cases)
    drawn = [draw_others(others, case, 4, 0) for case in cases]  # none about the case's own subject
    assert len({tuple(some) for some in drawn}) > 1
    seen = [plain.edit([some]).memory for some in drawn]
    known = {name: torch.cat([memory[name] for memory in seen]) for name in seen[0]}
    wanted = plain.edit(cases, (), known)
    assert close(first.delta, wanted.delta)
    assert not close(first.delta, plain.edit(cases).delta, 1e-3)
    # a later edit is not warmed up once more
    second = editor.edit(cases, first.delta, first.memory)
    assert close(second.delta, plain.edit(cases, wanted.delta, wanted.memory).delta)


def test_with_rows_of_all_tokens_there_is_no_warm_up():
    settings = {"layers": [0, 1], "lr": 0.01, "rows": "all"}
    cold, warm = (settings_of("ultraedit", settings | {"warm_up": count}) for count in (0, 30))
    method, lm, case = method_of("ultraedit"), tiny(), [requests(3)]
    assert method.method.needs(warm) == ()
    assert close(method.make(lm, warm, {}).edit(case).delta, method.make(lm, cold, {}).edit(case).delta)


def test_a_warm_up_without_other_cases_is_refused():
    with pytest.raises(ValueError, match="needs first edits of other cases"):
        warmed(tiny(), []).edit([[requests(1)[0]]])
