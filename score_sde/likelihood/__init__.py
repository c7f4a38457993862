"""Likelihoods of the probability-flow ODE, the bound of the SDE, encoding."""

from score_sde.likelihood.bound import Bound as Bound
from score_sde.likelihood.bound import sde_bound as sde_bound
from score_sde.likelihood.classes import Posterior as Posterior
from score_sde.likelihood.classes import bayes as bayes
from score_sde.likelihood.classes import of_every_class as of_every_class
from score_sde.likelihood.encoding import decode as decode
from score_sde.likelihood.encoding import encode as encode
from score_sde.likelihood.encoding import interpolate as interpolate
from score_sde.likelihood.encoding import temperature as temperature
from score_sde.likelihood.grid import log_likelihood_on as log_likelihood_on
from score_sde.likelihood.ode import LogLikelihood as LogLikelihood
from score_sde.likelihood.ode import log_likelihood as log_likelihood
from score_sde.likelihood.ode import log_likelihood_given as log_likelihood_given
