"""Names of editors for readers: different for different labels, and in every place of a table."""

import pandas as pd

from aftershock.editors.names import display_names
from aftershock.page.names import bars_with_names, run_with_name, runs_with_names, with_names

EDITORS = {
    "plain": {"method": "rome"},
    "ft_m": {"method": "ft", "settings": {"objective": "target_new"}},
    "ft": {"method": "ft"},
    "memit_mle": {"method": "memit", "second_edit": "multi_label"},
    "memit_mle_3": {"method": "memit", "second_edit": "multi_label", "labels": 3},
    "small": {"method": "memit", "regularisers": [{"rect": {}}, {"norm_clamp": {"limit": 0.1}}]},
}
NAMES = display_names(EDITORS)


def test_names_are_those_of_papers_and_none_stands_for_two_labels():
    assert NAMES == {
        "plain": "ROME",
        "ft_m": "FT (ft_m)",
        "ft": "FT",
        "memit_mle": "MEMIT+MLE",
        "memit_mle_3": "MEMIT+MLE (memit_mle_3)",
        "small": "MEMIT+RECT+norm clamp",
    }


def test_tables_name_editors_in_columns_and_among_words():
    frame = pd.DataFrame(
        {
            "editor": ["ft", "elsewhere"],
            "other": ["plain", "ft_m"],
            "order": ["memit_mle > ft = ft_m", None],
            "evidence": ["CS exp: ft above plain (10 %), drift of ft.x", "ft-like"],
        }
    )
    named = with_names(frame, NAMES)
    assert list(named["editor"]) == ["FT", "elsewhere"]
    assert list(named["other"]) == ["ROME", "FT (ft_m)"]
    assert named["order"][0] == "MEMIT+MLE > FT = FT (ft_m)"
    assert named["order"].isna()[1]
    assert list(named["evidence"]) == ["CS exp: FT above ROME (10 %), drift of FT.x", "ft-like"]
    assert with_names(frame, {}).equals(frame)


def test_runs_and_bars_are_named_and_keep_the_rest():
    assert runs_with_names([{"editor": "ft", "seed": 1}], NAMES) == [{"editor": "FT", "seed": 1}]
    assert run_with_name({"kg": "world"}, NAMES) == {"kg": "world"}
    assert bars_with_names([{"metric": "m", "editors": ["ft", "new"]}, {"metric": "k"}], NAMES) == [
        {"metric": "m", "editors": ["FT", "new"]},
        {"metric": "k"},
    ]
