"""Fields that a network is shown beside x, such as the fields before it: standardised, and 0 where nothing is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from score_sde.data.sources import Source, gather
from score_sde.names import FIELD, IMAGE


@dataclass(frozen=True)
class Beside:
    """One example's field [H, W, C], and the mean and standard deviation of its channels."""

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Beside":
        """The inverse of dataclasses.asdict, of what JSON keeps."""
        return cls(*(tuple(value[name]) for name in ("shape", "mean", "std")))

    def standardised(self, stored: np.ndarray) -> np.ndarray:
        """Fields [N, H, W, C] in their own units -> float32, of mean 0 and deviation 1; 0, the mean, for NaN."""
        x = (stored.astype(np.float32) - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.where(np.isnan(x), np.float32(0), x)

    def of_sources(self, given: Mapping[str, Source]) -> dict[str, Any]:
        """The condition of examples, one entry for each, of what the data have of them by name."""
        return {IMAGE: Standardised(given[FIELD], self)}


@dataclass(frozen=True)
class Standardised:
    """A source of fields as a network is shown them."""

    source: Source
    beside: Beside

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return (len(self.source), *self.beside.shape)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, indices: Any) -> np.ndarray:
        return self.beside.standardised(gather(self.source, indices).reshape(-1, *self.beside.shape))
