"""Scores of what is asked for: of a class, of a measurement, of whatever can be differentiated."""

from score_sde.guidance.classifier import class_log_prob as class_log_prob
from score_sde.guidance.classifier import classifier_guided as classifier_guided
from score_sde.guidance.classifier import guided_by as guided_by
from score_sde.guidance.classifier_free import apart as apart
from score_sde.guidance.classifier_free import batched as batched
from score_sde.guidance.classifier_free import classifier_free as classifier_free
from score_sde.guidance.classifier_free import limited as limited
from score_sde.guidance.diffpir import DiffPIRScore as DiffPIRScore
from score_sde.guidance.dps import DPSScore as DPSScore
from score_sde.guidance.jfps import JFPS as JFPS
from score_sde.guidance.matched import Matched as Matched
from score_sde.guidance.measurement import Measurement as Measurement
from score_sde.guidance.measurement import measurement as measurement
from score_sde.guidance.mmps import MMPS as MMPS
from score_sde.guidance.pigdm import PiGDM as PiGDM
from score_sde.guidance.posterior import PosteriorScore as PosteriorScore
from score_sde.guidance.projected import by_denoisers as by_denoisers
from score_sde.guidance.projected import nearest_multiple as nearest_multiple
from score_sde.guidance.projected import projected_difference as projected_difference
from score_sde.guidance.tmpd import TMPD as TMPD
