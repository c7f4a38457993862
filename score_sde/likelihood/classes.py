"""Bayes' classifier of a class-conditional model: the class by the likelihoods of an example under every one."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from score_sde.typing import Array


class Posterior(NamedTuple):
    """Of examples under K classes: log p(x | k) [B, K] and log p(k | x) [B, K], in nats, and log p(x) [B]."""

    log_prob: Array
    log_posterior: Array
    log_evidence: Array

    @property
    def label(self) -> Array:
        """The most probable class, int32 [B]."""
        return jnp.argmax(self.log_posterior, axis=-1).astype(jnp.int32)


def bayes(log_prob: Array, prior: Array) -> Posterior:
    """p(k | x) = prior_k p(x | k) / sum_j prior_j p(x | j) of log_prob [B, K] in nats, prior [K] of sum 1 or not.

    Classes of prior 0 have log p(k | x) = -inf. Exact where the likelihoods are: the error of a class's estimate is
    that of its log-odds. Source: Zimmermann et al. 2021 (score-based generative classifiers).
    """
    prior = jnp.asarray(prior, log_prob.dtype)
    joint = log_prob + jnp.log(prior / jnp.sum(prior))[None]
    evidence = jax.nn.logsumexp(joint, axis=-1)
    return Posterior(log_prob, joint - evidence[:, None], evidence)


def of_every_class(log_prob: Callable[[Array, Array], Array], x0: Array, classes: int) -> Array:
    """log p(x_0 | k) [B, classes] in nats of a likelihood (x_0 [B, ...], label int32 [B]) -> [B], class by class.

    Give every class the same probes: what is then unsure of the divergence is mostly common to all, and cancels.
    Source: Zimmermann et al. 2021.
    """
    one = lambda k: log_prob(x0, jnp.full(len(x0), k))
    return jax.lax.map(one, jnp.arange(classes, dtype=jnp.int32)).T
