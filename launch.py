"""python launch.py --config configs/digits.py: see `python launch.py --help`."""

import sys

from score_sde.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
