import sys

from snakemake.utils import min_version

min_version("9.0")
sys.path.insert(0, f"{workflow.basedir}/workflow")


configfile: f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/screen.smk"
include: "workflow/rules/facts.smk"
include: "workflow/rules/paraphrases.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/cases.smk"
include: "workflow/rules/knowledge.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/edit.smk"
include: "workflow/rules/precision.smk"
include: "workflow/rules/sequences.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/curves.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        f"{REPORT}/index.html" if config["datasets"] or SEQUENCES else [],
        datasets_of_run(),
        sequences_of_run(),
        judged_of_run(),


onsuccess:
    from aftershock.provenance.manifest import leave_manifest

    leave_manifest(config)
