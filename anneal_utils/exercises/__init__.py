"""Exercises that check themselves, and predictions that are set beside the measurement.

They need no server, and say why an answer is off. What is right stands in ``references``, not in
the notebooks.
"""

from anneal_utils.exercises.checking import check, check_function, investigate
from anneal_utils.exercises.predictions import compare, journal, predict

__all__ = ["check", "check_function", "compare", "investigate", "journal", "predict"]
