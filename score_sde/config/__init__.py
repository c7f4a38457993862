"""The configuration: every field, reading config files, what is valid. Free of jax."""

from score_sde.config.fields import ELEMENTS as ELEMENTS
from score_sde.config.fields import FREE_ON_RESUME as FREE_ON_RESUME
from score_sde.config.fields import SCHEMA as SCHEMA
from score_sde.config.fields import TYPES as TYPES
from score_sde.config.fields import Config as Config
from score_sde.config.fields import default as default
from score_sde.config.fields import differing_fields as differing_fields
from score_sde.config.fields import flatten as flatten
from score_sde.config.fields import load as load
from score_sde.config.fields import nearest as nearest
from score_sde.config.fields import one_line as one_line
from score_sde.config.fields import require_field as require_field
from score_sde.config.fields import wrong_type as wrong_type
