"""What is trained: the contract in base.py, one system a file."""

from score_sde.systems.adversarial import Adversarial as Adversarial
from score_sde.systems.base import Bounded as Bounded
from score_sde.systems.base import Condition as Condition
from score_sde.systems.base import System as System
from score_sde.systems.classifier import Classifier as Classifier
from score_sde.systems.consistency import Consistency as Consistency
from score_sde.systems.distilled import Distilled as Distilled
from score_sde.systems.first_stage import FirstStage as FirstStage
from score_sde.systems.hierarchical import Hierarchical as Hierarchical
from score_sde.systems.latent import Joint as Joint
from score_sde.systems.latent import Latent as Latent
from score_sde.systems.latent_flow import FlowBound as FlowBound
from score_sde.systems.masked import Masked as Masked
from score_sde.systems.reflow import Reflow as Reflow
from score_sde.systems.score import Score as Score
from score_sde.systems.teacher import Teacher as Teacher
from score_sde.systems.vae import VAE as VAE
from score_sde.systems.vdm import VDM as VDM
