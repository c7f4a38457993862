"""Score networks in Flax Linen whose parameter trees carry the published names."""

from score_sde.networks.ncsnpp import NCSNpp as NCSNpp
