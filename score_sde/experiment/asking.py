"""What samples are guided by: a classifier or a weaker score of another run, a log-density of clean examples."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.config import Config, one_line
from score_sde.config.degradation_checks import same_degradation
from score_sde.config.validation import DECODERS
from score_sde.data.captions import TextSpec
from score_sde.data.spec import Spec
from score_sde.errors import UsageError, require
from score_sde.experiment import dotted
from score_sde.experiment.frozen import Frozen
from score_sde.guidance.classifier import LogProb, class_log_prob
from score_sde.sde import SDE
from score_sde.systems import Condition
from score_sde.systems.base import Params
from score_sde.typing import Array, ScoreFn

WANTED = {
    "guide": (("score", "reflow"), "which has no score of this run's noisy examples"),
    "classifier": (("classifier",), "which is no classifier of noisy examples"),
}
"""The systems that a part is of, by system.name, and what a run of another lacks."""
PROBES = 4
"""Examples that a function of yours is tried on."""


def check_parts(parts: Mapping[str, Frozen], config: Config, spec: Spec, sde: SDE) -> None:
    """UsageError for a guide or a classifier of another system, noise process or classes than the run's."""
    for part, found in parts.items():
        field, other = f"frozen.{part}={config.frozen[part]}", found.experiment
        told, (names, lacks) = other.config.system.name, WANTED[part]
        require(
            told in names,
            f"{field} is a run of system.name={told!r}, {lacks}: name one of system.name="
            + " or ".join(map(repr, names)),
        )
        require(
            _same(sde, other.sde),
            f"{field} has another noise process than this run, so that one t is not one noise level for both: name a"
            " run with the same section sde",
        )
        require(
            same_degradation(config, other.config),
            f"{field} is shown degradation.name={other.config.degradation.name!r}, and this run's network is shown"
            " something else: name a run with the same section degradation, or 'none' in it",
        )
        mine, theirs = spec.labels, other.spec.labels
        require(
            mine is None or theirs is None or mine.count == theirs.count,
            f"{field} knows {theirs and theirs.count} classes and this run {mine and mine.count}: name a run on the"
            " same classes",
        )
        require(
            part != "guide" or theirs is None or mine is not None,
            f"{field} is told labels and this run is not: name a guide that is told what this run is told, or nothing",
        )
        require(
            other.spec.text is None or same_text(spec, other.spec),
            f"{field} reads another text than this run: name a run of the same words, or one that reads none",
        )


def same_text(one: Spec, other: Spec) -> bool:
    """Whether two networks read the same tokens, or embeddings of one shape."""
    mine, theirs = ((text.words, text.shapes) if text else None for text in (one.text, other.text))
    return mine == theirs


def _same(one: SDE, other: SDE) -> bool:
    """Whether alpha and sigma are the same at every t."""
    if one.T != other.T:
        return False
    t = jnp.asarray([0.01, 0.3, 0.7, 1.0]) * one.T
    pairs = [(getattr(one, name)(t), getattr(other, name)(t)) for name in ("alpha", "sigma")]
    return all(bool(jnp.allclose(a, b, rtol=1e-5)) for a, b in pairs)


def weights(parts: Mapping[str, Frozen]) -> dict[str, Params]:
    """The parts' parameters, to be given to a program beside the run's own: {"frozen.guide": {its part: tree}}."""
    return {f"frozen.{part}": found.params for part, found in parts.items()}


def lent(parts: Mapping[str, Frozen], frozen: Mapping[str, Frozen]) -> dict[str, Params]:
    """Those of the parts, and of the frozen ones that samples and bounds read too (DECODERS)."""
    return weights({**parts, **{part: found for part, found in frozen.items() if part in DECODERS}})


def _params(params: Params, part: str, found: Frozen) -> Params:
    """Those that the program was given, or constants."""
    return params.get(f"frozen.{part}", found.params)


def guide(
    parts: Mapping[str, Frozen], params: Params, condition: Condition, backwards: bool, text: TextSpec | None = None
) -> ScoreFn:
    """The weaker run's score of the same condition; backwards: as Score.score has it.

    text: what the condition has, which a guide that reads none is not told.
    """
    found = parts["guide"]
    unread = text.shapes if text and not found.experiment.spec.text else {}
    told = {name: value for name, value in condition.items() if name not in unread}
    return found.experiment.system.score(_params(params, "guide", found), told, backwards)


def classifier(parts: Mapping[str, Frozen], params: Params, condition: Condition, backwards: bool = True) -> LogProb:
    """log p_t(label | x) of the other run's classifier; backwards: as Classifier.logits has it."""
    return class_log_prob(logits(parts, params, backwards), jnp.asarray(condition["label"]))


def logits(parts: Mapping[str, Frozen], params: Params, backwards: bool = True) -> Callable[[Array, Array], Array]:
    """The other run's classifier: (x [B, ...], t [] or [B]) -> logits [B, K]."""
    found = parts["classifier"]
    return found.experiment.system.logits(_params(params, "classifier", found), backwards)


@functools.lru_cache(maxsize=16)
def log_prob(path: str, shape: tuple[int, ...], centered: bool = True) -> Callable[[Array], Array]:
    """The function x_0 [B, *shape] in the network's range -> log p(y | x_0) [B] in nats that guidance.log_prob names.

    It is tried on a few examples: UsageError where it does not give a number for each, is not differentiable in
    x_0 under jit, or is not finite.
    """
    field = f"guidance.log_prob={path!r}"
    remedy = "name a function of jax.numpy from x_0 [B, ...] to log p(y | x_0) [B], such as mymodule.log_prob"
    function = dotted.function("guidance.log_prob", path, remedy)
    x = np.random.RandomState(0).uniform(-1.0 if centered else 0.0, 1.0, (PROBES, *shape)).astype(np.float32)
    with jax.ensure_compile_time_eval():
        try:
            found = jax.eval_shape(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
            shapes = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(found)]
            good = shapes and shapes == [((PROBES,), shapes[0][1])] and jnp.issubdtype(shapes[0][1], jnp.floating)
            said = " and ".join(f"{dtype} {list(shape)}" for shape, dtype in shapes) or "nothing"
            require(good, f"{field} gives {said} of x_0 {list(x.shape)}, not one real number for each: {remedy}")
            total = lambda x: (jnp.sum(function(x)), function(x))
            slope, values = jax.jit(jax.grad(total, has_aux=True))(jnp.asarray(x))
        except UsageError:
            raise
        except Exception as error:  # whatever the function raises, or jax of what it cannot differentiate
            text = f"{type(error).__name__}: {one_line(error)[:200]}"
            raise UsageError(f"{field} cannot be differentiated in x_0 ({text}): {remedy}") from error
        for name, array in (("values", values), ("a gradient", slope)):
            require(
                bool(np.isfinite(array).all()),
                f"{field} gives {name} that are not finite, of x_0 {list(x.shape)} drawn uniformly from the data's"
                " range: give a log-density that is finite there, such as one clipped from below",
            )
        require(
            bool(np.any(slope)),
            f"{field} has the gradient 0 on all of {PROBES} random examples, as what rounds or counts has: {remedy},"
            " and smooth, or guide by guidance.guided_by in Python",
        )
    return function
