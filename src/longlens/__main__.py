"""`python -m longlens` does what the command `longlens` does."""

import sys

from longlens.cli import main

if __name__ == "__main__":
    sys.exit(main())
