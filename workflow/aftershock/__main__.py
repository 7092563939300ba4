"""The command `aftershock`, also as `python -m aftershock`."""

import sys

from aftershock.command.app import main

if __name__ == "__main__":
    sys.exit(main())
