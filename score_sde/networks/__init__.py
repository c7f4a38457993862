"""Networks in Flax Linen whose parameter trees carry the published names."""

from score_sde.networks.adm import ADM as ADM
from score_sde.networks.adm import dhariwal as dhariwal
from score_sde.networks.adm_encoder import ADMEncoder as ADMEncoder
from score_sde.networks.ddpm import ddpm as ddpm
from score_sde.networks.edm2 import EDM2 as EDM2
from score_sde.networks.ncsnpp import NCSNpp as NCSNpp
from score_sde.networks.ncsnv2 import NCSNv2 as NCSNv2
from score_sde.networks.wideresnet import WideResNet as WideResNet
from score_sde.networks.wideresnet import normalise_cifar10 as normalise_cifar10
