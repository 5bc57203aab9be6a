VERSION: tuple[int, int, int]

def error_of(code: int, path: str, writing: bool) -> Exception:
    """The exception a code of LMDB or the system becomes."""
