"""The command `aftershock`, also as `python -m aftershock`."""

from aftershock.command.app import main

if __name__ == "__main__":
    main()
