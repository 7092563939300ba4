"""Every family: its masks, and passes that are cut or entered halfway, on tiny random models."""

import pytest
import torch

from aftershock.lm.hooks import last_mlp_at, record_activations, start_after_layer
from aftershock.lm.optimisation.prefix_cache import split_at_subject
from aftershock.lm.texts.tokens import locate
from tiers import of_families
from tiny import (
    FAMILIES,
    MORE,
    NAMES,
    ROUNDING,
    TEMPLATES,
    TEXTS,
    changed_outputs,
    dense,
    low_rank,
    tiny,
    with_each,
    written,
)

every_family = pytest.mark.parametrize("family", of_families([*FAMILIES, *MORE]))


@every_family
@torch.no_grad()
def test_a_mask_of_ones_own_is_that_of_the_model(family):
    lm = tiny(family)
    ids, mask = lm.pad(lm.encode(TEXTS[:5]))
    whole = lm.run(ids, mask)
    seq = torch.arange(ids.shape[1])
    allowed = (seq[:, None] >= seq) & mask[:, None].bool() | torch.eye(len(seq), dtype=torch.bool)
    places = seq.expand(len(ids), -1)
    again = lm.run(ids, lm.attention(allowed, places, places), position_ids=places)
    assert torch.allclose(again[mask.bool()], whole[mask.bool()], atol=ROUNDING[family])


@every_family
@torch.no_grad()
def test_texts_side_by_side_in_one_row_do_not_see_each_other(family):
    """True if a family heeds masks and places at all: each text has places of its own."""
    lm = tiny(family)
    first, second = lm.encode([TEXTS[0], TEXTS[77]])
    places = torch.tensor([[*range(len(first)), *range(len(second))]])
    part = torch.tensor([[0] * len(first) + [1] * len(second)])
    seq = torch.arange(places.shape[1])
    allowed = (seq[:, None] >= seq) & (part[:, :, None] == part[:, None])
    both = torch.tensor([first + second])
    found = lm.run(both, lm.attention(allowed, places, places), position_ids=places)[0]
    alone = [lm.run(torch.tensor([ids]), torch.ones(1, len(ids)))[0] for ids in (first, second)]
    assert torch.allclose(found, torch.cat(alone), atol=ROUNDING[family])
    plain = lm.run(both, torch.ones_like(both))[0]
    assert (plain[len(first) :] - alone[1]).abs().max() > 0.01


@every_family
def test_a_pass_can_be_watched_stopped_and_resumed(family):
    lm = tiny(family)
    ids, mask = lm.pad(lm.encode(TEXTS[:3]))
    whole = lm.run(ids, mask, use_cache=False)
    with record_activations(lm, inputs=[lm.projection(0)], stop=lm.layer(0)) as seen:
        lm.run(ids, mask, use_cache=False)
        raise AssertionError("the pass should have stopped")
    assert seen["in", lm.projection(0)].shape[-1] == lm.weight(lm.projection(0)).shape[1]
    with start_after_layer(lm, 0, seen["out", lm.layer(0)]):
        assert torch.allclose(lm.run(ids, mask, use_cache=False), whole, atol=ROUNDING[family])
    assert torch.equal(lm.run(ids, mask, use_cache=False), whole)
    assert not any(m._forward_hooks or "forward" in vars(m) for m in lm.model.modules())


@every_family
@torch.no_grad()
def test_the_last_mlp_can_be_computed_where_it_is_read(family):
    lm = tiny(family)
    ids, mask = lm.pad(lm.encode([TEXTS[0], TEXTS[50], TEXTS[100]]))
    whole = lm.run(ids, mask)
    last = int(mask.sum(dim=1).min()) - 1
    read, valid = torch.tensor([[1, last], [last, 0], [0, 2]]), torch.tensor([[1, 1], [1, 0], [1, 1]])
    with last_mlp_at(lm, read, valid):
        found = lm.run(ids, mask)
    kept = valid.bool()
    index = read[..., None].expand(-1, -1, lm.d_model)
    assert torch.allclose(found.gather(1, index)[kept], whole.gather(1, index)[kept], atol=ROUNDING[family])


WHERE = [("layer", 0), ("layer", 1), ("both", 0), ("both", 1), ("both", 2)]


@pytest.mark.parametrize(("where", "family"), of_families(with_each(WHERE[:2]) + with_each(WHERE[2:])))
@torch.no_grad()
def test_a_cut_pass_equals_a_whole_one(family, where):
    """Groups of two texts, whose subjects stand anywhere, run from the subject on in two cases of a state.

    A vector is added to a layer's output; or one to what its attention puts out, and its MLP sees it, and
    another to what that does.
    """
    (site, layer), lm = where, tiny(family)
    below = 0 if site == "layer" else layer
    state, cases = (low_rank(lm, below, 2), dense(lm, 2, 2)), torch.tensor([1, 0, 1])
    openings = ("Then as they say in town", "So")
    groups = [
        locate(lm, [(f"{opening} {template} Oslo or Rome.", name) for opening in openings])
        for template, name in zip(TEMPLATES, NAMES[1:4], strict=True)
    ]
    names = [lm.layer(layer)]
    if site == "both":
        names = [lm.attention_projection(layer).rpartition(".")[0], lm.mlp(layer)]
    shape = (3, len(names), lm.d_model)
    added = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=lm.dtype)
    key = lm.projection(layer)
    given = added if site == "both" else added[:, 0]
    prefixes, seen = split_at_subject(lm, groups, layer, site, state, cases, [key] if site == "layer" else [])
    width = prefixes.ids.shape[2]
    lengths = torch.tensor([[len(row.ids) - row.subject for row in group] for group in groups])
    assert len({row.subject for group in groups for row in group}) > 3
    valid = torch.arange(width) < lengths[..., None]
    read = torch.where(valid, torch.arange(width), 0)
    also = [lm.layer(1)] if site == "layer" else []
    everything = torch.arange(read[0].numel()).expand(len(read), -1)
    with prefixes.run(lm, state, given, read, valid, everything, also) as (found, seen_above):
        early = seen_above.get(lm.layer(1))
    for i, group in enumerate(groups):
        edited_lm = written(lm, state, int(cases[i]))
        for r, row in enumerate(group):
            vectors = dict(zip(names, added[i], strict=True))
            with record_activations(edited_lm, inputs=[key], outputs=[lm.layer(1)]) as whole:
                wanted = _with_vectors(edited_lm, torch.tensor([row.ids]), row.subject, vectors)
            wanted = wanted[0, row.subject :]
            mine = slice(r * width, r * width + len(wanted))
            assert torch.allclose(found[i, mine], wanted, atol=ROUNDING[family]), (i, r)
            if site == "layer":
                keys = whole["in", key][0, row.subject]
                assert torch.allclose(seen["in", key][i, r], keys, atol=ROUNDING[family])
            if where == ("layer", 0):
                stream = whole["out", lm.layer(1)][0, row.subject :]
                assert torch.allclose(early[i, mine], stream, atol=ROUNDING[family])


@pytest.mark.parametrize(("site", "family"), of_families(with_each(["layer", "both"])))
@torch.no_grad()
def test_a_second_pass_is_what_a_first_one_would_be(family, site):
    """It calls the layers itself, in a model whose upper layers are changed too, and with other vectors."""
    lm = tiny(family)
    state, cases = (low_rank(lm, 0, 2), dense(lm, 1, 2), dense(lm, 2, 2)), torch.tensor([1, 0])
    groups = [
        locate(lm, [(f"{start} {TEMPLATES[0]} Rome.", name) for start in ("Then", "So")])
        for name in NAMES[:2]
    ]
    draw, shape = torch.Generator().manual_seed(1), (2, 2, lm.d_model) if site == "both" else (2, lm.d_model)
    vectors = [torch.randn(shape, generator=draw, dtype=lm.dtype) for _ in range(2)]
    also = [lm.layer(number) for number in range(lm.n_layers)] if site == "layer" else []

    def passes(added):
        prefixes, _ = split_at_subject(lm, groups, 0, site, state, cases, [])
        for some in added:
            width = torch.arange(prefixes.ids.shape[2]).expand(prefixes.ids.shape)
            everything = torch.arange(prefixes.ids[0].numel()).expand(len(groups), -1)
            entered = prefixes.run(lm, state, some, width, torch.ones_like(width), everything, also)
            with entered as (found, seen):
                yield found, seen

    (_, (second, above)), ((alone, expected),) = passes(vectors), passes(vectors[1:])
    assert torch.equal(second, alone)
    assert above.keys() == expected.keys() == set(also)
    assert all(torch.equal(above[name], expected[name]) for name in also)
    assert not any(
        m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in lm.model.modules()
    )


def _with_vectors(lm, ids, at, vectors):
    """Hidden states of a text whose modules put out so much more, by name, at one token."""

    def moved(vector):
        def move(hidden):
            hidden[:, at] += vector
            return hidden

        return move

    with changed_outputs(lm, {name: moved(vector) for name, vector in vectors.items()}):
        return lm.run(ids, torch.ones_like(ids), use_cache=False)
