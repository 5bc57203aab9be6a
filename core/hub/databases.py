"""The databases of a store's environment, and what is kept alike in several of them (ARCHITECTURE.md tells what is in each)."""

from __future__ import annotations

from typing import Final

# In this order in heads of journal files and in copies; new ones are appended.
DATABASES: Final = (
    "profiles", "contacts", "events", "identifiers", "catalog", "meta", "programs", "origins", "households", "memberships",
    "cases",
)
# Those whose keys are ids, of customers and of households.
BY_CUSTOMER: Final = ("profiles", "contacts", "events", "origins", "households", "memberships", "cases")
# What stores of earlier formats may lack.
ADDED: Final = ("origins", "households", "memberships", "cases")
