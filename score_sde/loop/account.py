"""What every run says of its data, once: on stderr and in data.json."""

import sys

from score_sde.config import Config
from score_sde.config.architecture import multiple
from score_sde.data.sources import Dataset
from score_sde.data.telling import lines, to_json
from score_sde.storage.workdir import Workdir, write_json


def account(config: Config, data: Dataset, workdir: Workdir) -> None:
    """Say how many examples there are of each kind, and write it into the run's directory; for the first process."""
    print(*lines(data, multiple(config)), sep="\n", file=sys.stderr)
    write_json(workdir.data, to_json(data))
