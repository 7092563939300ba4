"""One case's observations as dictionaries, and what the slow metrics of every dataset share.

A value that cannot be given is None.
"""

import math


class Case:
    """The probes and observations (dictionaries) of one case, with its row of CASES."""

    def __init__(self, about, probes, rows, known=None, given=None):
        self.about, self.known, self.given = about, known or {}, given
        self.probes = {}
        for probe in probes:
            self.probes.setdefault(probe["role"], {})[probe["position"]] = probe
        self.rows = {}
        for row in rows:
            self.rows.setdefault((row["probe_id"], row["state"]), {})[row["prompt_id"]] = row

    def seen(self, role, state, position=0):
        """Observations by prompt."""
        probe = self.probes.get(role, {}).get(position)
        return self.rows.get((probe["probe_id"], state), {}) if probe else {}

    def p(self, role, state, position=0, scoring="geometric_mean", prompts="all"):
        """Mean probability over prompts."""
        values = []
        for prompt, row in self.seen(role, state, position).items():
            if (prompts == "edit" and prompt > 0) or (prompts == "paraphrases" and prompt == 0):
                continue
            if scoring == "joint":
                values.append(math.exp(row["logprob"]))
            elif scoring == "first_token":
                values.append(math.exp(row["token_logprobs"][0]))
            else:
                values.append(math.exp(row["logprob"] / row["n_tokens"]))
        return sum(values) / len(values) if values else None

    def mean(self, role, state, what, prompts, position=0):
        """Mean of `what` (of a row) over those of `prompts` that were observed."""
        seen = self.seen(role, state, position)
        values = [float(what(seen[prompt])) for prompt in prompts if prompt in seen]
        return sum(values) / len(values) if values else None

    def exact(self, role, state, position=0):
        return self.mean(role, state, lambda row: row["argmax_match"], [0], position)

    def positions(self, role):
        return sorted(self.probes.get(role, {}))


# --- arithmetic that passes None on ------------------------------------------------------------------------
def more(a, b):
    return None if a is None or b is None else float(a > b)


def same(a, b):
    return None if a is None or b is None else float(a == b)


def less(a, b):
    return None if a is None or b is None else a - b


def drop(before, after):
    return None if before is None or after is None or before == 0 else (before - after) / before


def log_drop(before, after):
    return None if before is None or after is None else math.log(before) - math.log(after)


def half(a, b):
    return None if a is None or b is None else (a + b) / 2


def average(values):
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def at_least(value, lowest=-1.0):
    return None if value is None else max(lowest, value)


PARAPHRASES = range(1, 11)


def written(edit, case, new, replaced, state):
    """The metrics of one edit, and the same before any."""
    found = {}
    role = next((name for name in replaced if case.probes.get(name)), None)
    for ending, when in (("", state), ("_before", "0")):
        mine, other = case.p(new, when, prompts="edit"), case.p(role, when, prompts="edit") if role else None
        wins = []
        for prompt, row in case.seen(new, when).items():
            rival = case.seen(role, when).get(prompt) if role else None
            if prompt > 0 and rival:
                a, b = (r["logprob"] / r["n_tokens"] for r in (row, rival))
                wins.append(float(math.exp(a) > math.exp(b)))
        said = case.seen(new, when).get(0)
        label = case.probes[new][0]["object"]
        found |= {
            f"{edit}_efficacy{ending}": more(mine, other),
            f"{edit}_efficacy_magnitude{ending}": less(mine, other),
            f"{edit}_paraphrase_efficacy{ending}": average(wins),
            f"{edit}_exact{ending}": case.exact(new, when),
            f"{edit}_paraphrase{ending}": case.mean(new, when, lambda r: r["argmax_match"], PARAPHRASES),
            f"{edit}_held_out{ending}": case.mean(new, when, lambda r: r["argmax_match"], (8, 9, 10)),
            f"{edit}_token_accuracy{ending}": case.mean(
                new, when, lambda r: r["tokens_matched"] / r["n_tokens"], [0]
            ),
            f"{edit}_paraphrase_token_accuracy{ending}": case.mean(
                new, when, lambda r: r["tokens_matched"] / r["n_tokens"], PARAPHRASES
            ),
            # The simulated labels are compared as they stand: they differ in no letter case and no spacing.
            f"{edit}_generated{ending}": float(said["continuation"].split(" and")[0] == " " + label)
            if said and said["continuation"]
            else None,
        }
    return found


def states_of(name, case, role):
    states = {"_before": "0", "_after_first": "1", "": "2"}
    return {f"probability_{name}{ending}": case.p(role, state) for ending, state in states.items()}


def with_control(name, raw, control):
    return {name: raw, f"{name}_control": control, f"{name}_control_difference": less(raw, control)}


def conditional(found, names):
    worked = found["e1_failed"] == 0
    return {f"{name}_given_e1": found[name] if worked else None for name in names if name in found}
