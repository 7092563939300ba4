"""CrispEdit on recorded cases: curvature, projection, both chunks and Adam's moments between them."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from aftershock.editors.crispedit.curvature import Factors, Projection
from aftershock.editors.crispedit.edit import CrispEdit
from aftershock.lm.model import LanguageModel
from recorded import CLOSED_FORM, DELTA, EXACT, Check, NotCoveredError, Recorded, absolute, relative
from recorded_edits import delta_checks, probe_checks
from recorded_settings import settings_by

STEP = 1e-3  # relative, of changes that Adam makes
PROJECTED = 2e-3  # where float32 cannot tell the eigenvectors of the smallest values apart
FINE = 0.9
"""The share of curvature from which on it cannot: then a first step of Adam is another one."""


def check_crispedit(case: Recorded) -> Iterator[Check]:
    """Some passes over the requests, and one more after their own curvature is merged."""
    lm = with_padding_token(case)
    hparams = dict(case.inputs["hparams"])
    if hparams.pop("rewrite_module_tmp") != f"{lm.family.projection}.weight":
        raise NotCoveredError("rewrite_module_tmp")
    settings = settings_by("crispedit", hparams, ("mom2_dtype",))
    per_pass = -(-len(case.requests) // settings.batch_size)
    orders = [
        sum(case.inputs["order"][i : i + per_pass], []) for i in range(0, len(case.inputs["order"]), per_pass)
    ]
    before = case.inputs["steps_before_merge"] // per_pass
    first, second = (_editor(case, lm, replace(settings, steps=n)) for n in (before, len(orders) - before))
    first.order = lambda n, epoch: orders[epoch]  # type: ignore[method-assign]
    second.order = lambda n, epoch: orders[before + epoch]  # type: ignore[method-assign]
    yield from _curvature_checks(case, first)
    one = first.edit([case.requests])
    two = second.edit([case.requests], one.delta, one.memory)
    if settings.energy > FINE:
        return
    losses = torch.cat([r.diagnostics[0]["losses"][:, 0] for r in (one, two)])
    yield Check("losses", absolute(losses, [step["loss"] for step in case.outputs["trace"]]), DELTA)
    merged = first.projections(one.memory)
    for change in one.delta:
        module, name = change.module, f"{change.module}.weight"
        wanted = case.tensors[f"delta_after_step{case.inputs['steps_before_merge']}.{name}"]
        yield Check("dW between", relative(change.dense()[0], case.ours(wanted)), STEP)
        assert one.memory is not None
        a, g = (one.memory[f"{part}.{module}"][0] for part in ("inputs", "gradients"))
        yield Check("edit tokens", float(len(a) != case.inputs["edit_tokens"]), EXACT)
        yield Check("edit A", relative(a.T @ a / len(a), case.tensors[f"edits.A.{name}"]), STEP)
        yield Check("edit B", relative(g.T @ g / len(g), case.tensors[f"edits.B.{name}"]), 10 * STEP)
        moment = one.memory[f"exp_avg.{module}"]
        yield Check(
            "exp_avg", relative(moment[0], case.ours(case.tensors[f"merged.exp_avg_before.{name}"])), STEP
        )
        projected = merged[module](moment, torch.zeros(1, dtype=torch.long))[0]
        wanted = case.ours(case.tensors[f"merged.exp_avg_after.{name}"])
        yield Check("exp_avg projected", relative(projected, wanted), STEP)
    state = (*one.delta, *two.delta)
    yield from delta_checks(case, lm, state, STEP)
    yield from probe_checks(case, lm, state)


def with_padding_token(case: Recorded) -> LanguageModel:
    """The case's model with the recorded rows of the token that the released code adds."""
    lm = LanguageModel.load(str(case.root / case.inputs["model"]))
    embed, head = (case.tensors[f"init.{part}.pad_rows"] for part in ("embed", "lm_head"))
    size = lm.model.config.vocab_size
    lm.model.resize_token_embeddings(size + len(embed), mean_resizing=False)
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[size:] = embed
        output = lm.model.get_output_embeddings()
        output.weight[size:] = head
        if (bias := case.tensors.get("init.lm_head.pad_bias")) is not None:
            output.bias[size:] = bias
    return lm


def _editor(case: Recorded, lm: LanguageModel, settings: object) -> CrispEdit:
    editor = CrispEdit(lm, settings)
    editor.texts = case.inputs["kfac_texts"]
    return editor


def _curvature_checks(case: Recorded, editor: CrispEdit) -> Iterator[Check]:
    """A and B on text, and the projection of a gradient by the recorded ones."""
    energy = editor.settings.energy
    tolerance = CLOSED_FORM if energy < FINE else PROJECTED
    for module, factors in editor.factors.items():
        name = f"{module}.weight"
        yield Check("text tokens", float(factors.count != case.inputs["kfac_tokens"]), EXACT)
        A, B = (case.tensors[f"kfac.{part}.{name}"] for part in "AB")
        yield Check("A", relative(factors.A, A), CLOSED_FORM)
        yield Check("B", relative(factors.B, B), CLOSED_FORM)
        projection = Projection.of([Factors(A.double(), B.double(), 1.0)], energy)
        wanted = case.tensors[f"proj.M.{name}"].bool()
        yield Check("M", float((wanted != projection.M[0].T).sum()), EXACT)
        gradient, kept = (case.ours(case.tensors[f"step0.{part}.{name}"]) for part in ("grad", "grad_proj"))
        found = projection(gradient[None], torch.zeros(1, dtype=torch.long))[0]
        yield Check("grad_proj given inputs", relative(found, kept), tolerance)
