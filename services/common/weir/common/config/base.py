"""What every section of the configuration is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
ResidencyName = Literal["local_only", "redacted", "any"]


class Section(BaseModel):
    """A group of settings; unknown keys are errors (see ``load``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
