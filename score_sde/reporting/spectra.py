"""The power spectrum of samples beside the data's, of fields."""

from collections.abc import Mapping

import numpy as np

from score_sde.evaluation.spectrum import Spectrum
from score_sde.reporting import figures
from score_sde.reporting.page import Section


def spectra(own: Mapping[str, Spectrum], data: Spectrum) -> Section:
    """own: of the samples, by what they are called."""
    title = "Power spectrum"
    if not own:
        return Section(title, "Not measured: there are not two finite samples.")
    said = []
    for name, found in own.items():
        off, error = ratio(found, data)
        worst = int(np.argmax(np.abs(off - 1)))
        said.append(f"{off[worst]:.3f} ± {error[worst]:.3f} at wavenumber {worst} for {name}")
    caption = (
        "Power at every wavenumber, in waves along the shortest side, of standardised fields, and the samples' over the"
        " training data's, with standard errors over fields: 1 where samples have as much structure of that size as"
        f" the data. Furthest from it: {'; '.join(said)}. Too little at high wavenumbers is detail that is lost, too"
        " much is noise that is left."
    )
    return Section(title, caption, "spectrum", figures.png(figures.spectra(own, data)))


def ratio(found: Spectrum, data: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Power over the data's, and its standard error, [K] each."""
    tiny = np.finfo(np.float64).tiny
    value = found.mean / np.maximum(data.mean, tiny)
    relative = [(part.error / np.maximum(part.mean, tiny)) ** 2 for part in (found, data)]
    return value, value * np.sqrt(sum(relative))
