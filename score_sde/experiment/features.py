"""What turns pictures into the features [N, D] that figures are made of: Inception's, pixels, or a function of yours.

Each names what it computes in `about`, without which numbers cannot be compared, and takes any number of pictures.
"""

import importlib
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
from score_sde.networks.inception import Inception, folded

Pictures = np.ndarray | Sequence[np.ndarray]
"""uint8 [N, H, W, C], or uint8 [H, W, C] each where their sizes differ."""
BATCH = {"cpu": 8}
"""Pictures at once on a device, by its kind; 64 on others."""


class Extractor(Protocol):
    """Pictures -> {"features": float32 [N, D]}, and {"logits": [N, 1008]} of a network that has them.

    about: facts in which sets must agree to be compared: features, and of a network fingerprint and preprocessing.
    size: how many pictures to give at once.
    """

    about: dict[str, str]
    size: int

    def check(self, pictures: Pictures) -> None:
        """UsageError for what it cannot take, before anything compiles."""
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

    def check(self, pictures: Pictures) -> None:
        """UsageError unless they are bytes [N, H, W, C]."""
        kind = pictures.dtype if isinstance(pictures, np.ndarray) else pictures[0].dtype
        require(
            kind == np.uint8,
            f"pictures of {kind} are none that Inception knows: give uint8 [N, H, W, C], or set"
            " evaluation.features='pixels' or a function of your own, as module.function",
        )

    def __call__(self, pictures: Pictures) -> dict[str, np.ndarray]:
        """Features [N, D] and logits [N, 1008], batch by batch; UsageError for what are no bytes."""
        self.check(pictures)
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
    """A function of pictures [N, ...], as they are stored, to features [N, D]; `pixels`: their numbers themselves."""

    def __init__(self, function: Callable[[np.ndarray], Any], name: str, size: int = 0) -> None:
        self.about, self.size, self._function = {"features": name}, size or 256, function

    def check(self, pictures: Pictures) -> None:
        """UsageError where sizes differ."""
        require(
            isinstance(pictures, np.ndarray),
            f"evaluation.features={self.about['features']!r} takes pictures of one size, and these have several: resize"
            " them, or set evaluation.features='inception'",
        )

    def __call__(self, pictures: Pictures) -> dict[str, np.ndarray]:
        """Features of all of them; UsageError where the function does not give one row to each."""
        self.check(pictures)
        parts = (np.asarray(pictures[i : i + self.size]) for i in range(0, len(pictures), self.size))
        return {"features": np.concatenate([self._rows(part) for part in parts])}

    def _rows(self, pictures: np.ndarray) -> np.ndarray:
        rows = np.asarray(self._function(pictures))
        require(
            rows.ndim == 2 and len(rows) == len(pictures) and rows.dtype.kind in "fiu",
            f"evaluation.features={self.about['features']!r} gave {rows.dtype} {rows.shape} of {len(pictures)}"
            " pictures, not a row of numbers for each: return [N, D]",
        )
        return rows


def pixels(size: int = 0, comparable: Callable[[np.ndarray], np.ndarray] = np.asarray) -> FunctionFeatures:
    """The pictures' own numbers, bytes on the [-1, 1] scale: what the digits are measured by.

    comparable: what is done to them first, such as a kind's own.
    """
    return FunctionFeatures(lambda x: to_vectors(comparable(x)), "pixels", size)


def extractor(name: str = "inception", preprocessing: str = "tf1", weights: str = "", size: int = 0) -> Extractor:
    """By `evaluation.features`: inception, pixels, or the dotted path of a function images [N, ...] -> [N, D].

    weights: the Inception's file, "" for the installed package's. size: pictures at once, 0 for what suits. Raises
    UsageError where there are no weights, or no such function.
    """
    if name == "inception":
        return InceptionFeatures(published.find(weights), preprocessing, size=size)
    return pixels(size) if name == "pixels" else FunctionFeatures(_function(name), name, size)


def _function(path: str) -> Callable[[np.ndarray], Any]:
    module, _, name = path.rpartition(".")
    remedy = "name inception, pixels or a function that Python finds, such as mymodule.features"
    require(module, f"evaluation.features={path!r} is unknown: {remedy}")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"evaluation.features={path!r} cannot be imported ({error}): {remedy}") from None
    require(callable(found), f"evaluation.features={path!r} is a {type(found).__name__}: {remedy}")
    return found
