"""Linear SDEs with closed-form marginals, their reversal, and data whose score is exact."""

from score_sde.sde.base import SDE as SDE
from score_sde.sde.base import Churn as Churn
from score_sde.sde.base import Reverse as Reverse
from score_sde.sde.base import denoised as denoised
from score_sde.sde.base import denoiser as denoiser
from score_sde.sde.base import noised as noised
from score_sde.sde.base import one_minus_exp as one_minus_exp
from score_sde.sde.base import reverse as reverse
from score_sde.sde.base import score_of as score_of
from score_sde.sde.base import transition as transition
from score_sde.sde.cosine import Cosine as Cosine
from score_sde.sde.cosine import cosine as cosine
from score_sde.sde.exploding import VE as VE
from score_sde.sde.exploding import Karras as Karras
from score_sde.sde.exploding import karras as karras
from score_sde.sde.exploding import ve as ve
from score_sde.sde.interpolants import LinearVP as LinearVP
from score_sde.sde.interpolants import Polynomial as Polynomial
from score_sde.sde.interpolants import Straight as Straight
from score_sde.sde.interpolants import polynomial as polynomial
from score_sde.sde.learned import Learned as Learned
from score_sde.sde.linear import VP as VP
from score_sde.sde.linear import SubVP as SubVP
from score_sde.sde.linear import VariancePreserving as VariancePreserving
from score_sde.sde.linear import subvp as subvp
from score_sde.sde.linear import vp as vp
