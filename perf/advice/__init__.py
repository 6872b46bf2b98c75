"""What to change about a served model, and why, from Triton's own statistics."""

from perf.advice.deciding import advise
from perf.advice.found import Advice
from perf.advice.setting import Machine, Setting
from perf.advice.summary import observed, sentence

__all__ = ["Advice", "Machine", "Setting", "advise", "observed", "sentence"]
