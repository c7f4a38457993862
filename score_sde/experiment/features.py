"""What turns pictures into the features [N, D] that figures are made of: Inception's, pixels, or a function of yours.

Each names what it computes in `about`, without which numbers cannot be compared, and takes any number of pictures.
"""

import hashlib
import inspect
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.adapters import inception as published
from score_sde.devices.arrays import collect, replicate, spread
from score_sde.errors import UsageError, require
from score_sde.evaluation.preprocessing import PREPROCESSINGS, in_colour
from score_sde.evaluation.two_sample import to_vectors
from score_sde.experiment import dotted
from score_sde.networks.inception import Inception, folded

Pictures = np.ndarray | Sequence[np.ndarray]
"""uint8 [N, H, W, C], or uint8 [H, W, C] each where their sizes differ."""
BATCH = {"cpu": 8}
"""Pictures at once on a device, by its kind; 64 on others."""


class Extractor(Protocol):
    """Pictures -> {"features": float32 [N, D]}, and {"logits": [N, 1008]} of a network that has them.

    about: facts in which sets must agree to be compared: features, fingerprint, preprocessing. size: how many pictures
    to give at once.
    """

    about: dict[str, str]
    size: int

    def check(self, shape: tuple[int, ...], dtype: np.dtype | type) -> None:
        """UsageError for pictures of a shape [...] and dtype that it cannot take, before anything compiles."""
        ...

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """Of the features of a picture of that shape; 0 where they are not known before."""
        ...

    def __call__(self, pictures: Pictures) -> dict[str, np.ndarray]: ...


class InceptionFeatures:
    """The features of the FID Inception, with its logits if its weights have a head, on all devices.

    One program for pictures of a size, in batches of `size`, the last one padded and cut: a picture's features do not
    depend on its companions. Grey is repeated to three channels. Pictures of several sizes are resized on the host.
    layer: "2048" [N, 2048], or "64", "192", "768". Raises UsageError for a preprocessing that is unknown.
    """

    def __init__(
        self, weights: published.Weights, preprocessing: str = "tf1", layer: str = "2048", size: int = 0
    ) -> None:
        require(
            preprocessing in PREPROCESSINGS,
            f"evaluation.preprocessing={preprocessing!r} is unknown: choose one of {', '.join(PREPROCESSINGS)}",
        )
        devices = jax.device_count()
        self.size = -(-size // devices) * devices or BATCH.get(jax.default_backend(), 64) * devices
        self._dimensions = int(layer)
        name = "inception" if layer == "2048" else f"inception {layer}"
        self.about = {"features": name, "fingerprint": weights.fingerprint, "preprocessing": preprocessing}
        self._resize, head = PREPROCESSINGS[preprocessing], weights.head is not None
        network, self._parameters = Inception(head), replicate(folded(weights.layers, weights.head))
        wanted = {"features": layer} | ({"logits": "logits_unbiased"} if head else {})

        def features(parameters: Any, x: jax.Array) -> dict[str, jax.Array]:
            resized = self._resize(x, jnp) if x.dtype == jnp.uint8 else x
            found = network.apply({"params": parameters}, resized)
            return {name: found[part] for name, part in wanted.items()}  # pyright: ignore[reportArgumentType, reportCallIssue, reportIndexIssue]

        self._features = jax.jit(features)

    def check(self, shape: tuple[int, ...], dtype: np.dtype | type) -> None:
        """UsageError unless they are bytes [H, W, C], C from 1 to 4."""
        require(
            dtype == np.uint8 and len(shape) == 3 and 0 < shape[-1] <= 4 and min(shape) > 0,
            f"pictures of {np.dtype(dtype).name} {shape} are none that Inception knows: give uint8 [N, H, W, C], the"
            " channels at the end, or set evaluation.features='pixels' or a function of your own, as module.function",
        )

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """Those of the layer."""
        return self._dimensions

    def __call__(self, pictures: Pictures) -> dict[str, np.ndarray]:
        """Features [N, D] and logits [N, 1008], batch by batch; UsageError for what are no pictures of bytes."""
        for picture in (pictures[0],) if isinstance(pictures, np.ndarray) and len(pictures) else pictures:
            self.check(picture.shape, picture.dtype)
        require(len(pictures) > 0, "there are no pictures to take features of: give one or more")
        found = [self._batch(pictures[i : i + self.size]) for i in range(0, len(pictures), self.size)]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _batch(self, pictures: Pictures) -> dict[str, np.ndarray]:
        if isinstance(pictures, np.ndarray):
            x = in_colour(pictures)
        else:
            x = np.concatenate([self._resize(in_colour(picture[None])) for picture in pictures])
        padded = np.pad(x, ((0, self.size - len(x)), *[(0, 0)] * 3), mode="edge")
        found = collect(self._features(self._parameters, spread(padded)))
        return {name: values[: len(x)] for name, values in found.items()}


class FunctionFeatures:
    """A function of pictures [N, ...], as they are stored, to features [N, D]; size: how many it is given at once.

    name: what it is called in errors and in `about`, with more facts.
    """

    def __init__(self, function: Callable[[np.ndarray], Any], name: str, size: int = 0, **facts: str) -> None:
        self.about, self.size, self._function = {"features": name, **facts}, size or 256, function

    def check(self, shape: tuple[int, ...], dtype: np.dtype | type) -> None:
        """Nothing is known of what the function takes."""

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """Not known."""
        return 0

    def __call__(self, pictures: Pictures) -> dict[str, np.ndarray]:
        """Features of all of them; UsageError where sizes differ, or there is not one row of numbers for each."""
        require(
            isinstance(pictures, np.ndarray),
            f"evaluation.features={self.about['features']!r} takes pictures of one size, and these have several: resize"
            " them, or set evaluation.features='inception'",
        )
        require(len(pictures) > 0, "there are no pictures to take features of: give one or more")
        parts = [self._rows(np.asarray(pictures[i : i + self.size])) for i in range(0, len(pictures), self.size)]
        widths = {part.shape[1] for part in parts}
        require(
            len(widths) == 1, f"evaluation.features={self.about['features']!r} gave rows of {sorted(widths)} numbers"
        )
        return {"features": np.concatenate(parts)}

    def _rows(self, pictures: np.ndarray) -> np.ndarray:
        try:
            rows = np.asarray(self._function(pictures))
        except ValueError as error:  # what numpy says of rows of several lengths, or the function itself
            raise UsageError(f"evaluation.features={self.about['features']!r} failed: {error}") from error
        require(
            rows.ndim == 2 and len(rows) == len(pictures) and rows.size > 0 and rows.dtype.kind in "fiu",
            f"evaluation.features={self.about['features']!r} gave {rows.dtype} {rows.shape} of {len(pictures)}"
            " pictures, not a row of numbers for each: return [N, D]",
        )
        return rows


MOST = 16_384
"""Dimensions of pixels, above which their covariance takes more than 2 GiB."""


class Pixels:
    """The pictures' own numbers: bytes on the [-1, 1] scale; real numbers as they are, or standardised.

    real: of the data, not bytes. comparable: what is done to real numbers first, by a fingerprint that tells it.
    """

    def __init__(
        self,
        real: bool = False,
        size: int = 0,
        comparable: Callable[[np.ndarray], np.ndarray] | None = None,
        fingerprint: str = "",
    ) -> None:
        scale = ("standardised" if comparable else "stored") if real else "bytes"
        self._real, facts = real, {"preprocessing": scale, **({"fingerprint": fingerprint} if fingerprint else {})}
        self._rows = FunctionFeatures(lambda x: to_vectors(comparable(x) if comparable else x), "pixels", size, **facts)
        self.about, self.size = self._rows.about, self._rows.size

    def check(self, shape: tuple[int, ...], dtype: np.dtype | type) -> None:
        """UsageError for bytes among real numbers and the other way round, and for more than MOST of them."""
        require(
            (dtype != np.uint8) == self._real,
            f"pictures of {np.dtype(dtype).name} cannot be compared with others of"
            f" {'real numbers' if self._real else 'bytes'}, whose scale is another one: give both as the same",
        )
        require(
            math.prod(shape) <= MOST,
            f"evaluation.features='pixels' of {shape} are {math.prod(shape):,} dimensions, more than {MOST:,}: set"
            " evaluation.features='inception', or a function of your own",
        )

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """How many numbers a picture has."""
        return math.prod(shape)

    def __call__(self, pictures: Pictures) -> dict[str, np.ndarray]:
        """Features of all of them; UsageError for what `check` refuses, and where sizes differ."""
        for picture in pictures[:1]:
            self.check(picture.shape, picture.dtype)
        return self._rows(pictures)


def extractor(
    name: str = "inception", preprocessing: str = "tf1", weights: str = "", size: int = 0, real: bool = False
) -> Extractor:
    """By `evaluation.features`: inception, pixels, or the dotted path of a function images [N, ...] -> [N, D].

    weights: the Inception's file, "" for the installed package's. size: pictures at once, 0 for what suits. real: of
    pixels, real numbers and not bytes. Raises UsageError where there are no weights, or no such function.
    """
    if name == "inception":
        return InceptionFeatures(published.find(weights), preprocessing, size=size)
    if name == "pixels":
        return Pixels(real, size)
    remedy = "name inception, pixels or a function that Python finds, such as mymodule.features"
    function = dotted.function("evaluation.features", name, remedy)
    return FunctionFeatures(function, name, size, **_source(function))


def _source(function: Callable) -> dict[str, str]:
    """The fingerprint of the file that a function stands in, where there is one: edited, it is another."""
    try:
        file = inspect.getsourcefile(function)
    except TypeError:  # of a compiled function or an object
        file = None
    return {"fingerprint": hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()} if file else {}
