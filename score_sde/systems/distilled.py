"""Progressive distillation: a student whose every step is two of its teacher's (Salimans & Ho 2022)."""

import dataclasses

import jax
import jax.numpy as jnp

from score_sde.objectives.denoising import Reduction, Weighting, mean, perturb, truncated_snr
from score_sde.rng import Purpose, child, normal
from score_sde.sde import SDE
from score_sde.solvers.few_step import denoised_step, few_step, node
from score_sde.solvers.sampling import Samples
from score_sde.systems.base import Condition, Params
from score_sde.systems.teacher import PART, Student, Teacher
from score_sde.training.step import View
from score_sde.typing import Array, Keys, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class Distilled(Student):
    """A network of the teacher's kind that starts at its weights and draws samples in `num_steps` steps N (few_step).

    i = 1 .. N evenly, t = T (i / N)^rho; two DDIM steps of the teacher lead from x_t by the time between to x_s, s one
    of the student's nodes below t, and the student's one step is to end there too:

        x~ = (x_s - q x_t) / (alpha_s - q alpha_t), q = sigma_s / sigma_t,  or the teacher's last x_0 at i = 1,
        loss = weight(t) (alpha_t / sigma_t)^2 reduce((x~ - x^)^2),  weight that of the noise residual (denoising.py).

    The published one is `truncated_snr`: max(alpha^2 / sigma^2, 1). x~ is a function of x_t, so of a network that can
    follow its teacher the loss's minimum is 0, and the student keeps the teacher's own error. Source: Salimans & Ho
    2022 (arXiv 2202.00512), algorithm 2.
    """

    teacher: Teacher = dataclasses.field(kw_only=True)
    num_steps: int = dataclasses.field(kw_only=True)
    rho: float = 1.0
    weighting: Weighting = truncated_snr
    reduction: Reduction = mean
    frozen: tuple[str, ...] = (PART,)

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of every example [B] at the step that its quantile u falls on."""
        i, z = 1 + jnp.floor(u * self.num_steps), normal(child(keys, Purpose.NOISE), x0.shape[1:], x0.dtype)
        student = self.denoiser(params, condition, self.dropout_keys(keys, training), **self.trained())
        taught = self.teacher.denoiser(view.frozen[PART], condition, **self.trained())
        loss = distillation_loss_at(
            student,
            taught,
            self.process,
            x0,
            i,
            z,
            num_steps=self.num_steps,
            rho=self.rho,
            weighting=self.weighting,
            reduction=self.reduction,
        )
        return loss, {}

    def draw(self, params: Params, keys: Keys, condition: Condition) -> Samples:
        """By its own steps."""
        denoiser = self.denoiser(params, condition)
        return few_step(keys, denoiser, self.process, self.shape, num_steps=self.num_steps, rho=self.rho)


def distillation_loss_at(
    student: ScoreFn,
    teacher: ScoreFn,
    sde: SDE,
    x0: Array,
    i: Array,
    z: Array,
    *,
    num_steps: int,
    rho: float = 1.0,
    weighting: Weighting = truncated_snr,
    reduction: Reduction = mean,
) -> Array:
    """The loss [B] of two denoisers at given nodes i [B], 1 .. N, and noise z [B, ...] (`Distilled`)."""
    t = node(sde, i / num_steps, rho)
    x, _ = perturb(sde, x0, t, z)
    target = jax.lax.stop_gradient(two_steps(sde, teacher, x, i, num_steps, rho))
    weight = weighting(sde, t) * jnp.exp(sde.log_snr(t))
    return weight * reduction((student(x, t) - target) ** 2)


def two_steps(sde: SDE, denoiser: ScoreFn, x: Array, i: Array, num_steps: int, rho: float = 1.0) -> Array:
    """The x_0 [B, ...] by which one of N steps from x at the node i [B], 1 .. N, ends where two of 2 N do."""
    t, between, s = (node(sde, (i - back) / num_steps, rho) for back in (0.0, 0.5, 1.0))
    half = denoised_step(sde, x, denoiser(x, t), t, between)
    last = denoiser(half, between)
    end = denoised_step(sde, half, last, between, s)
    ratio = sde.sigma(s) / sde.sigma(t)
    target = (end - expand(ratio, x) * x) / expand(sde.alpha(s) - ratio * sde.alpha(t), x)
    return jnp.where(expand(i == 1, x), last, target)
