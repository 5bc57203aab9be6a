from typing import final

@final
class Context:
    """A server's TLS settings from PEM files: certificate chain, key, and the authorities of clients ('' asks for none).

    Raises ConfigError that names the setting and the file.
    """

    def __init__(self, certificate: str, key: str, client_authorities: str = "") -> None: ...
