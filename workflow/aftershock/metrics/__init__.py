"""From observed log-probabilities to metrics, intervals and tables. Nothing here knows a tensor or a model.

`observed` joins shards and turns log-probabilities into p(k) of every fact in every state; `formulas` holds
the arithmetic, one function per formula; `conflict` and `rounds` score ConflictEdit and RoundEdit cases with
it; `run` scores what one editor did to one dataset; `released` scores the result files of the study's own
code; `layouts` arranges summary rows as tables; `catalogue` says what each metric means.

How sure all this is, from scores alone: `analysis` makes every table of it. `summary` has one row per metric,
and one per level of what cases differ in; `comparisons` sets two editors side by side on the same cases;
`spread` tells what varies between seeds from what varies between cases; `stability` asks whether the order
of editors survives another scoring. `intervals` and `resampling` are below them: cases that share entities
answer alike, so whole clusters are drawn and flipped, for all metrics of a run in one matrix product. `study`
brings runs together, `settings` says how sure is sure.

A metric is added in one place: a line in `conflict` or `rounds` that computes it per case, and an entry in
`catalogue` that says what it is.

After Li et al. (2024): p(k) of a fact k is the mean over its prompts (the edit prompt and ten paraphrases) of
the geometric mean of its object's token probabilities. p_0, p_1 and p_2 are the unedited model, the model
after the first and after the second edit; p_e2_only has the second edit alone, p_control the first edit and
then one of another case of the same rule, p_random a random change as large as both edits. Names without a
suffix follow the paper; `_released` follows its code where the two differ.
"""
