"""The health of edits as a paper prints it, in LaTeX and in Markdown: after both edits, a row per run."""

import pandas as pd

from aftershock.labels import for_latex, for_markdown

SHOWN = (
    ("relative_median", "median"),
    ("relative_worst", "worst"),
    ("touched_median", "median"),
    ("rank_median", "median"),
    ("condition_worst", "worst"),
    ("perplexity_median", "median"),
    ("perplexity_worst", "worst"),
)
GROUPS = (
    ("Change by weight", 2),
    ("Rows touched", 1),
    ("Rank", 1),
    ("Condition", 1),
    ("Perplexity ratio", 2),
    ("Cases", 2),
)
STATE = "2"


def health_tables(summary: pd.DataFrame) -> dict[str, str]:
    """Return HEALTH_SUMMARY as text by file name, in LaTeX and in Markdown."""
    rows = summary[summary["state"] == STATE]
    return {"health.tex": _latex(rows), "health.md": _markdown(rows)}


def _caption(rows: pd.DataFrame) -> str:
    text = (
        "Health of edits after both of a case: Frobenius norm of the change relative to that of the weight, "
        "share of the weight's rows that change by 1 % or more, numerical rank, condition of the equations "
        "solved, and perplexity of a text that no edit is about, in those of the unedited model."
    )
    if rows.empty:
        return text
    first = rows.iloc[0]
    return (
        f"{text} Collapsed: cases with more than {first['collapse_threshold']:g} times its perplexity, of "
        f"those measured; disabling: with a norm of more than {first['disabling_threshold']:g} medians."
    )


def _lines(rows: pd.DataFrame) -> list[list[str]]:
    """Model, method, dataset and the shown numbers of each row, as plain text."""
    several = rows["seed"].nunique() > 1
    return [
        [
            row["model"],
            row["editor"] + (f" (seed {row['seed']})" if several else ""),
            row["dataset"],
            *(_number(row[name]) for name, _ in SHOWN),
            f"{row['collapsed']}/{row['measured']}",
            f"{row['disabling']}/{row['cases']}",
        ]
        for row in rows.to_dict("records")
    ]


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"


HEADS = ("Model", "Method", "Dataset", *(which for _, which in SHOWN), "collapsed", "disabling")


def _latex(rows: pd.DataFrame) -> str:
    groups, rules, place = [], [], 4
    for name, width in GROUPS:
        groups.append(f"\\multicolumn{{{width}}}{{c}}{{{name}}}")
        rules.append(f"\\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    text = [
        "% \\usepackage{booktabs}",
        "\\begin{table*}[t]",
        "  \\centering\\setlength{\\belowcaptionskip}{4pt}\\footnotesize\\setlength{\\tabcolsep}{3pt}",
        f"  \\caption{{{for_latex(_caption(rows))}}}",
        "  \\label{tab:health}",
        f"  \\begin{{tabular}}{{lll{'r' * (len(HEADS) - 3)}}}",
        "    \\toprule",
        f"    & & & {' & '.join(groups)} \\\\",
        f"    {' '.join(rules)}",
        f"    {' & '.join(HEADS)} \\\\",
        "    \\midrule",
    ]
    text += [f"    {' & '.join(for_latex(cell) or '--' for cell in line)} \\\\" for line in _lines(rows)]
    return "\n".join([*text, "    \\bottomrule", "  \\end{tabular}", "\\end{table*}", ""])


def _markdown(rows: pd.DataFrame) -> str:
    named = [name for name, width in GROUPS for _ in range(width)]
    heads = [*HEADS[:3], *(f"{group}, {head}" for group, head in zip(named, HEADS[3:], strict=True))]
    lines = [heads, [*["---"] * 3, *["---:"] * len(named)]]
    lines += [[for_markdown(cell) or "–" for cell in line] for line in _lines(rows)]
    return "\n".join([for_markdown(_caption(rows)), "", *(f"| {' | '.join(line)} |" for line in lines), ""])
