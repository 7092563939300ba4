"""A process that takes part in training a model: `python -m aftershock.lm.pretraining.worker`."""

from aftershock.lm.pretraining.processes import Main


def main() -> None:
    """Train with the process that started this one."""
    started_by = Main()
    from aftershock.lm.pretraining.fitting import help_fit  # takes seconds, in which that process may end

    help_fit(started_by)


if __name__ == "__main__":
    main()
