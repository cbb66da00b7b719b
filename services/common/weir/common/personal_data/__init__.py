"""Personal data and secrets in a text: where they are, or only which kinds there are."""

from weir.common.personal_data.detection import KINDS, Finding, find, is_quick, kinds

__all__ = ["KINDS", "Finding", "find", "is_quick", "kinds"]
