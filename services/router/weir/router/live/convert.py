"""Reports on classifiers as the GetStatus answer tells them."""

from __future__ import annotations

from collections.abc import Iterable

from weir.router.live.status import ClassifierReport
from weir.v1 import router_pb2


def reports_to_proto(reports: Iterable[ClassifierReport]) -> list[router_pb2.ClassifierStatus]:
    """Convert what ``LiveJudge.status`` returns."""
    return [
        router_pb2.ClassifierStatus(
            role=report.role,
            revision=report.revision,
            judged=report.judged,
            cached=report.cached,
            fallbacks=report.fallbacks,
            agreement=report.agreement,
            detail=report.detail,
        )
        for report in reports
    ]
