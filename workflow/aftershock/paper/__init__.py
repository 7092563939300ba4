"""Comparison of a run with the paper that it follows: pure functions from tables to tables and claims.

    tables         the tables of a run as a paper prints them, in LaTeX and in Markdown
    health         the health of edits in LaTeX and in Markdown
    reported       reported figures beside those of the run, where settings match, and the reasons elsewhere
    claims         the paper's claims: supported, not supported, or not testable with this run
    study_tables   the last two as tables of the report

`resources/paper/` holds the questions: `reported.csv`, `study.yaml` and `claims.yaml`.
"""
