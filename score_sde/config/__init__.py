"""The configuration: every field, reading config files, what is valid. Free of jax."""

from score_sde.config.fields import FREE_ON_RESUME as FREE_ON_RESUME
from score_sde.config.fields import SCHEMA as SCHEMA
from score_sde.config.fields import Config as Config
from score_sde.config.fields import choices as choices
from score_sde.config.fields import default as default
from score_sde.config.reading import ELEMENTS as ELEMENTS
from score_sde.config.reading import TYPES as TYPES
from score_sde.config.reading import differing_fields as differing_fields
from score_sde.config.reading import find as find
from score_sde.config.reading import flatten as flatten
from score_sde.config.reading import load as load
from score_sde.config.reading import nearest as nearest
from score_sde.config.reading import one_line as one_line
from score_sde.config.reading import require_field as require_field
from score_sde.config.reading import wrong_type as wrong_type
