"""What is trained: the contract in base.py, one system a file."""

from score_sde.systems.base import Condition as Condition
from score_sde.systems.base import System as System
from score_sde.systems.classifier import Classifier as Classifier
from score_sde.systems.score import Score as Score
