def bucket(value: int) -> int:
    """The bucket that ``value`` nanoseconds are counted in."""
