"""Two policies beside each other: what one lets run that the other does not, with calls that show it."""

from .comparing import compare
from .difference import Comparison, Relation, ToolDifference
from .witness import Step, Witness

__all__ = ["Comparison", "Relation", "Step", "ToolDifference", "Witness", "compare"]
