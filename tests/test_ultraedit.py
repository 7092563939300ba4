"""UltraEdit: rows, normaliser and solve against slow, obvious code; its variants; its memory."""

import math

import pytest
import torch

from aftershock.editors.ultraedit.edit import solve_dual, solve_primal
from aftershock.editors.ultraedit.normaliser import EPS, Rows, Statistics
from aftershock.lm.edits import select
from editing import close, make
from tiers import some
from tiny import ROUNDING, low_rank, requests, tiny, written

ALL = {"in": None, "out": None}
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
def test_the_normaliser_is_the_recursion_block_by_block_in_any_order():
    shape, sizes = (5, 3), [(0, 4), (1, 3), (0, 1), (0, 6), (1, 2)]
    before = Statistics.read({}, shape, 2, False, torch.device("cpu")).observe(
        random_rows([(0, 7)], *shape, 1)
    )
    rows = random_rows(sizes, *shape)
    after = before.observe(rows)
    for case in range(2):
        blocks = [rows.x[rows.blocks == i] for i, (owner, _) in enumerate(sizes) if owner == case]
        start = float(before.n[case]), before.mean[case], before.M[case]
        for order in (blocks, blocks[::-1]):
            n, mean, M = block_by_block(order, *start)
            assert after.n[case] == n
            assert torch.allclose(after.mean[case], mean, rtol=1e-12)
            assert torch.allclose(after.M[case], M, rtol=1e-12)
    h, g = after.normalise(rows)
    sigma = (after.M / (after.n - 1 + EPS)[:, None]).sqrt()[rows.cases]
    assert torch.allclose(
        torch.cat([h, g], dim=1), (rows.x - after.mean[rows.cases]) / (sigma + EPS), rtol=1e-12
    )


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
    dual = H.mT @ solve_dual(H, V, ridge)
    primal = solve_primal(H, V, ridge)
    assert (dual - primal).norm() < 1e-9 * primal.norm()
    H[0, 3:], V[0, 3:] = 0.0, 0.0  # of a case with fewer rows
    assert torch.allclose(H.mT @ solve_dual(H, V, ridge), solve_primal(H, V, ridge), rtol=1e-9, atol=1e-14)


# --- edits -------------------------------------------------------------------------------------------------
def slow(lm, case, settings, modules, memory=None):
    """One turn, row by row: autograd on the plain model, the recursion, and the paper's d_in unknowns."""
    texts = []
    for request in case:
        (prompt,), (target,) = lm.encode([request.text]), lm.encode_targets([request.target_new])
        texts.append((prompt, target))
    texts.sort(key=lambda text: len(text[0]) + len(text[1]), reverse=True)
    size = settings.batch_size
    rows = {module: [] for module in modules}  # a block for each mini-batch
    for batch in (texts[start : start + size] for start in range(0, len(texts), size)):
        inputs, outputs = {m: [] for m in modules}, {m: [] for m in modules}

        def keep(module, args, output, name, inputs=inputs, outputs=outputs):
            output = output.detach().requires_grad_() if not output.requires_grad else output
            output.retain_grad()
            inputs[name].append(args[0])
            outputs[name].append(output)
            return output

        handles = [
            lm.model.get_submodule(m).register_forward_hook(lambda *a, m=m, keep=keep: keep(*a, name=m))
            for m in modules
        ]
        loss, count = 0.0, sum(len(target) for _, target in batch)
        with torch.enable_grad():
            for prompt, target in batch:
                log_p = lm.model(input_ids=torch.tensor([prompt + target[:-1]])).logits[0].log_softmax(-1)
                for t, token in enumerate(target):
                    loss = loss - log_p[len(prompt) - 1 + t, token] / count
        loss.backward()
        for handle in handles:
            handle.remove()
        for m in modules:
            found = []
            for (prompt, target), x, out in zip(batch, inputs[m], outputs[m], strict=True):
                at = slice(len(prompt) - 1, len(prompt) - 1 + len(target))
                found.append(torch.cat([x[0, at], out.grad[0, at]], dim=1).detach())
            rows[m].append(torch.cat(found))
    seen, changes = dict(memory or {}), {}
    for m in modules:
        shape = tuple(lm.weight(m).shape)
        if shape not in seen:
            zero = torch.zeros(sum(shape), dtype=torch.float64)
            seen[shape] = 0, zero, zero
    for i in range(math.ceil(len(case) / size)):
        for m in modules:
            shape = tuple(lm.weight(m).shape)
            seen[shape] = block_by_block([rows[m][i]], *seen[shape])
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


@pytest.mark.parametrize("family", some(["gpt2", "llama", "gptj", "phi3", "gemma2"], ["gpt2", "gemma2"]))
def test_an_edit_is_the_formula_on_the_model_itself(family):
    lm = tiny(family)
    editor = make("ultraedit", lm, layers=[0, 2], modules=ALL, batch_size=3)
    first, second = requests(7), requests(5, template=1)
    changes, seen = slow(lm, first, editor.settings, editor.modules)
    result = editor.edit([first])
    rounding = max(ROUNDING[family], 1e-8)
    for delta in result.delta:
        wanted = changes[delta.module]
        assert (delta.dense()[0] - wanted).norm() < rounding * wanted.norm(), delta.module
    again = editor.edit([second], result.delta, result.memory)
    changes, _ = slow(written(lm, result.delta, 0), second, editor.settings, editor.modules, seen)
    for delta in again.delta:
        wanted = changes[delta.module]
        assert (delta.dense()[0] - wanted).norm() < rounding * wanted.norm(), delta.module


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_cases_of_any_size_side_by_side_equal_one_at_a_time(variant):
    lm = tiny("llama")
    editor = make(
        "ultraedit", lm, layers=[0, 2], modules={"gate": [2], "out": None}, batch_size=2, variant=variant
    )
    cases = [requests(5), requests(4, template=1), requests(2), requests(7, template=2)]
    state = (low_rank(lm, 1, 4),)
    together = editor.edit(cases, state)
    later = editor.edit(cases[::-1], (*state, *together.delta), together.memory)
    for i, case in enumerate(cases):
        alone = editor.edit([case], select(state, [i]))
        assert close(select(together.delta, [i]), alone.delta, 1e-9)
        assert alone.losses[0] == pytest.approx(together.losses[i], abs=1e-12)
        for name, kept in alone.memory.items():
            assert torch.allclose(kept[0], together.memory[name][i], rtol=1e-10, atol=0, equal_nan=True)
        start = (*select(state, [i]), *alone.delta)
        assert close(select(later.delta, [i]), editor.edit([cases[3 - i]], start, alone.memory).delta, 1e-9)


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


def test_the_port_takes_the_rows_of_all_tokens_and_forgets_what_it_saw():
    lm, cases = tiny("gpt2"), [requests(2)]
    target = make("ultraedit", lm, layers=[1], lr=1e-2).edit(cases)
    editor = make("ultraedit", lm, layers=[1], lr=1e-2, rows="all")
    port = editor.edit(cases)
    read = [
        (batch, pair)
        for batch in make("ultraedit", lm, layers=[1]).mini_batches(cases)
        for pair in batch.pairs
    ]
    tokens = sum(len(pair.prompt) + len(pair.target) - 1 for _, pair in read)
    assert len(target.diagnostics[0]["h"]) == sum(len(pair.target) for _, pair in read)
    assert len(port.diagnostics[0]["h"]) == tokens
    assert not close(port.delta, target.delta, 1e-3)
    again = editor.edit(cases, memory=port.memory)
    assert close(again.delta, port.delta, 1e-12)
    assert not close(
        make("ultraedit", lm, layers=[1], lr=1e-2).edit(cases, memory=target.memory).delta, target.delta, 1e-6
    )
