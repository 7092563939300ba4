"""Configuration of the rules of cases.smk."""


def locality_texts(wildcards):
    """The file of texts that coverage cases ask about, if there is one."""
    path = config["cases"]["locality_file"]
    return resource_path(path) if path and wildcards.dataset == "coverage" else []
