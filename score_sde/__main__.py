"""python -m score_sde: the command line, as `score-sde` and launch.py."""

from score_sde.cli.main import console

if __name__ == "__main__":
    console()
