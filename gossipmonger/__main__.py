"""`python -m gossipmonger`, the same as `gossipmonger` on the command line."""

import sys

from gossipmonger.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
