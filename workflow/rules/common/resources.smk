"""Resources that the rules with a GPU ask a scheduler for. None of it changes a result."""

from aftershock.budget.needs import Needs

NEEDS = Needs(config, MODELS, workflow.basedir)

try:
    NEEDS.check_gpus()
except ValueError as error:
    raise WorkflowError(str(error)) from None


def gpu_job(rule):
    """The resources of jobs that use one GPU: memory, minutes, and which GPU where types are named."""
    asked = ["mem_mb", "runtime", *(["gpu_model"] if config["gpus"] else [])]

    def function(what):
        return lambda wildcards, attempt: NEEDS.of(rule, what, wildcards, attempt)

    return {"gpu": 1} | {what: function(what) for what in asked}
