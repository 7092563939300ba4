"""Metrics, intervals and tables from observed log-probabilities, without tensors or models.

`holes` joins the shards of a run and says what is missing; `observed` turns log-probabilities into p(k) of
every fact in every state; `formulas` holds the arithmetic, one function per formula; `conflict` and
`rounds` score ConflictEdit and RoundEdit cases with it, `efficacy` what is asked of every edit; `variants`
repeats the headline metrics under other ways to make one probability of tokens and prompts; `facets` says
what cases differ in; `run` scores what one editor did to one dataset; `released` scores the result files of
the study's own code; `layouts` arranges summary rows as tables; `definitions` and `edit_definitions` say what
each metric means, `catalogue` what its variants do. `health` sums up the size of edits and what they do to a
text that none is about.

How sure all this is, from scores alone: `analysis` makes every table of it. `summary` has one row per metric,
and one per level of what cases differ in; `comparisons` sets two editors side by side on the same cases;
`spread` tells what varies between seeds from what varies between cases; `stability` asks whether the order
of editors survives another scoring. `intervals` and `resampling` are below them: cases that share entities
answer alike, so whole clusters are drawn and flipped, for all metrics of a run in one matrix product. `study`
brings runs together, `settings` says how sure is sure.

A metric is added in one place: a line in `conflict`, `rounds` or `efficacy` that computes it per case, and
an entry in `definitions` that says what it is. Its test is a twin in tests/slow_metrics.py; without one,
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
