"""Imports every module that binds handlers of mutations, one noun each, so that a store applies all a log may hold."""

import core.hub.erasing
import core.hub.happenings
import core.hub.households
import core.hub.imports
import core.hub.ingest
import core.hub.joining
import core.hub.matters
import core.hub.outcomes
import core.hub.programs_kept
import core.hub.upserting  # noqa: F401 - all of them for what they register
