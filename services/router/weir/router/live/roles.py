"""How a receipt names the classifier that decided."""

from __future__ import annotations

# Under which a decision's signals say so; the classifier in force is not named.
ROLE_SIGNAL = "classifier_role"
