def version() -> str:
    """The runtime's own version, for example "1.31.1". Loads the runtime. Raises ConfigError."""
