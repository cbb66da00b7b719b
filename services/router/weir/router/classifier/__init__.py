"""The prompt classifier: how likely it is that the small model's answer would not do."""

from weir.router.classifier.artifact import ArtifactMetadata
from weir.router.classifier.base import Assessment
from weir.router.classifier.model import Classifier
from weir.router.classifier.text import routing_text

__all__ = ["ArtifactMetadata", "Assessment", "Classifier", "routing_text"]
