"""Times the training stream: images from memory, from the decoded cache, and from a folder of PNGs read lazily.

    python benchmarks/data.py --size cifar10 --batch 128
    python benchmarks/data.py --size cifar10 --images 50000 --pictures 5000 --workers 1 2 --json out.json

Random images of the config's size, in random order, in calls of --steps-per-call batches. One row per way:
  memory, cache          --images images as an array, and as the memory-mapped file that decoded sets are kept in
  folder                 --pictures PNG files, decoded when they are asked for (from 64x64 pixels on by several threads)
  workers N              the same by N worker processes; start_s is what the first call takes, their start included
  images_per_s           median of --repeats passes over all images; of worker processes, whose reading ahead knows no
                         passes, over as many images in one go after the first call
  decoding_per_s         a plain loop of Pillow over the same files, in one thread: mean of just before and just after
  of_decoding            images_per_s / decoding_per_s
Exit codes: 0 done, 2 bad usage or config.
"""

import argparse
import itertools
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import common
from score_sde.config import Config
from score_sde.data.cache import Cache, stored
from score_sde.data.folder import folder
from score_sde.data.pictures import Format, Pictures
from score_sde.data.sources import Source
from score_sde.errors import UsageError, require


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--steps-per-call", type=int, default=10, metavar="K", help="batches per call (%(default)s)")
    parser.add_argument("--images", type=int, default=50_000, help="images in memory and cache (%(default)s)")
    parser.add_argument("--pictures", type=int, default=2000, help="PNG files (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="*", default=[2], metavar="N", help="worker processes (2)")
    arguments = parser.parse_args(argv[1:])
    try:
        counts = (arguments.steps_per_call, arguments.images, arguments.pictures, *arguments.workers)
        require(min(counts) >= 1, f"--steps-per-call, --images, --pictures, --workers {counts} must be at least 1")
        config = common.make_config(arguments, {"training.batch_size": arguments.batch})
        rows = measure(config, arguments)
    except UsageError as error:
        print(f"data: {error}", file=sys.stderr)
        return 2
    common.report("training stream", argv[0], argv[1:], config, rows, arguments.json)
    return 0


def measure(config: Config, arguments: argparse.Namespace) -> list[common.Row]:
    """A row for every way."""
    form = Format(config.data.image_size, config.data.num_channels)
    images = np.random.RandomState(0).randint(0, 256, (arguments.images, *form.shape)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as place:
        write(pathlib.Path(place), images[: arguments.pictures])
        cache = stored(Cache(place), "images", images.shape, images.dtype, lambda: iter([images]))
        pictures = Pictures(folder(place).train, form)
        rate = lambda source: in_passes(source, config, arguments)
        rows = [row("memory", rate(images)), row("cache", rate(cache))]
        rows.append(beside(pictures, "folder", lambda: (rate(pictures), None)))
        for workers in arguments.workers:
            name = f"workers {workers}"
            rows.append(beside(pictures, name, lambda n=workers: by_workers(pictures, config, arguments, n)))
    return rows


def write(place: pathlib.Path, images: np.ndarray) -> None:
    """A PNG file of every image."""
    from PIL import Image

    for i, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(place / f"{i:06d}.png")


def row(name: str, rate: float, start: float | None = None, decoding: float | None = None) -> common.Row:
    """One row of the table."""
    ratio = None if decoding is None else rate / decoding
    return {"source": name, "images_per_s": rate, "start_s": start, "decoding_per_s": decoding, "of_decoding": ratio}


def beside(pictures: Pictures, name: str, timing: Callable[[], tuple[float, float | None]]) -> common.Row:
    """A row with the rate of plain decoding around its own."""
    before = decoding_rate(pictures)
    rate, start = timing()
    return row(name, rate, start, (before + decoding_rate(pictures)) / 2)


def decoding_rate(pictures: Pictures) -> float:
    """Files per second through Pillow alone."""
    from PIL import Image

    start = time.perf_counter()
    for i in range(len(pictures)):
        with Image.open(pictures.files.name(i)) as image:
            np.asarray(image)
    return len(pictures) / (time.perf_counter() - start)


def calls(config: Config, arguments: argparse.Namespace) -> Iterator[tuple[int, int, int]]:
    """Calls without end."""
    size, steps = config.training.batch_size, arguments.steps_per_call
    return ((first, size, steps) for first in itertools.count(0, size * steps))


def calls_per_pass(source: Source, config: Config, arguments: argparse.Namespace) -> int:
    """So many that every image is read about once."""
    return -(-len(source) // (config.training.batch_size * arguments.steps_per_call))


def in_passes(source: Source, config: Config, arguments: argparse.Namespace) -> float:
    """Images per second: the median of several passes after a first one."""
    from score_sde.data.stream import Stream

    batches, count = Stream(source, 0).calls(calls(config, arguments)), calls_per_pass(source, config, arguments)
    seconds = []
    for _ in range(arguments.repeats + 1):
        start = time.perf_counter()
        for _ in range(count):
            next(batches)
        seconds.append(time.perf_counter() - start)
    return count * config.training.batch_size * arguments.steps_per_call / statistics.median(seconds[1:])


def by_workers(
    source: Source, config: Config, arguments: argparse.Namespace, workers: int
) -> tuple[float, float | None]:
    """Images per second after the first call, and the seconds of that."""
    from score_sde.data.stream import Stream

    count = calls_per_pass(source, config, arguments) * arguments.repeats
    schedule = itertools.islice(calls(config, arguments), count + 2)
    start = time.perf_counter()
    with closing(Stream(source, 0).calls(schedule, workers=workers)) as batches:
        next(batches)
        began = time.perf_counter()
        for _ in range(count):
            next(batches)
        seconds = time.perf_counter() - began
    return count * config.training.batch_size * arguments.steps_per_call / seconds, began - start


if __name__ == "__main__":
    sys.exit(main(sys.argv))
