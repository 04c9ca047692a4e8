"""`python -m seqmatch`: the command line."""

import sys

from seqmatch.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
