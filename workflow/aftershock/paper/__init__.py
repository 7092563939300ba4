"""A run beside the paper that it follows: pure functions from its tables to what the paper prints and claims.

    tables         the tables of a run as a paper prints them, in LaTeX and in Markdown
    health         the health of edits in LaTeX and in Markdown
    reported       reported figures beside those of the run, where both asked the same, and why not elsewhere
    claims         the paper's claims: supported, not supported, or not testable with this run
    study_tables   the last two as tables of the report

`resources/paper/` holds what is asked: `reported.csv`, `study.yaml` and `claims.yaml`.
"""
