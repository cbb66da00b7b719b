"""Errors: codes, their catalog, and their translation to and from gRPC."""

from weir.common.errors.base import ErrorCode, WeirError
from weir.common.errors.catalog import CATALOG

__all__ = ["CATALOG", "ErrorCode", "WeirError"]
