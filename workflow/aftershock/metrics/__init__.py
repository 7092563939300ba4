"""Metrics, intervals and tables from observed log-probabilities, without tensors or models.

`holes` joins the shards of a run and lists what is missing; `observed` turns log-probabilities into p(k) of
every fact in every state; `formulas` holds the arithmetic, one function per formula; `conflict` and `rounds`
score ConflictEdit and RoundEdit cases with it, and `efficacy` the metrics of every edit; `variants` repeats
the headline metrics under other ways to combine the probabilities of tokens and prompts; `facets` has the
properties in which cases differ; `run` scores the results of one editor on one dataset; `released` scores the
result files of the study's own code; `layouts` arranges summary rows as tables; `definitions` and
`edit_definitions` define the metrics, `catalogue` also their variants. `health` summarises the size of edits
and their effect on an unrelated text.

Uncertainty is computed from scores alone, and `analysis` makes every table of it. `summary` has one row per
metric, and one per level of a facet; `comparisons` compares two editors on the same cases; `spread` separates
variance between seeds from variance between cases; `stability` tests whether the order of editors depends on
the scoring; `ranking` ranks editors by what is asked of them. They use `intervals` and `resampling`: cases
that share entities are correlated, so whole clusters are resampled and sign-flipped, for all metrics of a run
in one matrix product. `study` joins runs, `settings` has confidence levels and numbers of resamples.

A metric is added in one place: a line in `conflict`, `rounds` or `efficacy` that computes it per case, and an
entry in `definitions` that defines it. Its test is a slow version in tests/slow_metrics.py; without one,
tests fail.
After Li et al. (2024): p(k) of a fact k is the mean over its prompts (the edit prompt and ten paraphrases)
of the geometric mean of its object's token probabilities. p_0, p_1 and p_2 are the unedited model, the
model after the first and after the second edit; p_e2_only has the second edit alone, p_control the first
edit and then one of another case of the same rule, p_random a random change as large as both edits. Names
without a suffix follow the paper; `_released` follows its code where the two differ. They differ, or leave
open, in fourteen points; what is taken by default, and what else there is:

     1  distortion (D)      Jensen-Shannon divergence in nats, at most ln 2: `distortion`. The code divides it
                            by the number of true objects: `distortion_released`
     2  magnitude (CM)      without limit: `conflict_magnitude`; no case below -100 %: `_released`; robust
                            where a probability is tiny: `_log_ratio`
     3  damage (TFD) from   after the first edit: `tied_fact_damage`; from the unedited model: `_released`; of
                            the second edit alone: `_e2_only`
     4  damage's limit      none in either; as for the magnitude: `_clamped`, `_released_clamped`
     5  success             likelier than before the edit: `success`, `single_success`; likelier than the
                            object it replaces, in the edited model: `_released`
     6  ignored objects     the mean over the other objects: `ignore_rate`; their number: `ignore_count`
     7  tied fact           (s2, r, s1), as in the data, not (s1, r, s2)
     8  composite's e2      its old object is the graph's z; that after the first edit is in no metric
     9  implicit score      of coverage is the explicit one; the same fact is scored once
    10  small denominators  an empty value where nothing is there to divide by (-100 % where the code clamps);
                            `e1_failed` where p_1 <= p_0, and `_given_e1` for the cases where it did not
    11  ties                are no success; `_tie` says how often they are
    12  prompts             edit prompt and paraphrases weigh alike; each alone, and the joint or first-token
                            probability in place of the geometric mean, in `variants`
    13  MLE's labels        all true objects; k of them with an editor's `labels: k`, and `_held_out` for the
                            objects that the second edit was not given
    14  aggregation         means with intervals, and paired comparisons of methods on the same cases

The four parts of the distortion (`_overshoot`, `_undershoot`, `_loss`, `_gain`) add up to it: every term of
the divergence belongs to one object, the one edited back or another one, whose share has grown or not.
"""
