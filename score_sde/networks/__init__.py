"""Networks in Flax Linen whose parameter trees carry the published names."""

from score_sde.networks.adm import ADM as ADM
from score_sde.networks.adm import dhariwal as dhariwal
from score_sde.networks.adm_encoder import ADMEncoder as ADMEncoder
from score_sde.networks.critic import Critic as Critic
from score_sde.networks.ddpm import ddpm as ddpm
from score_sde.networks.edm2 import EDM2 as EDM2
from score_sde.networks.egnn import EGNN as EGNN
from score_sde.networks.fourier import FourierFeatures as FourierFeatures
from score_sde.networks.gamma import Gamma as Gamma
from score_sde.networks.generator import Generator as Generator
from score_sde.networks.mlp import MLP as MLP
from score_sde.networks.ncsnpp import NCSNpp as NCSNpp
from score_sde.networks.ncsnv2 import NCSNv2 as NCSNv2
from score_sde.networks.patch_critic import PatchCritic as PatchCritic
from score_sde.networks.perceptron import Perceptron as Perceptron
from score_sde.networks.presence import Presence as Presence
from score_sde.networks.transformer import SpatialTransformer as SpatialTransformer
from score_sde.networks.transformer import TextEncoder as TextEncoder
from score_sde.networks.transformer import Transformer as Transformer
from score_sde.networks.transformer import TransformerBlock as TransformerBlock
from score_sde.networks.vae import Decoder as Decoder
from score_sde.networks.vae import Encoder as Encoder
from score_sde.networks.vq import VectorQuantizer as VectorQuantizer
from score_sde.networks.wavegrad import WaveGrad as WaveGrad
from score_sde.networks.wideresnet import WideResNet as WideResNet
from score_sde.networks.wideresnet import normalise_cifar10 as normalise_cifar10
