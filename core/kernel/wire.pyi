from collections.abc import Mapping

# By message: name, number and type of each field read or written; "*" repeated, "?" presence shows.
FIELDS: Mapping[str, tuple[tuple[str, int, str], ...]]
