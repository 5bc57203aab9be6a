"""Writes the Python code of the protos beside them: ``python -m protos.generate [FOLDER]``.

The generated files are kept in the repository, so that nothing has to be generated to install or run; a test writes
them again elsewhere and compares. protoc comes from the grpcio-tools package (of the ``dev`` extra). The root given to protoc is the
repository's, which is why imports inside the protos and inside the generated code begin with ``protos/``.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(target: Path = ROOT) -> list[Path]:
    """Compile every proto into ``target`` and return the files written, sorted.

    Raises RuntimeError when protoc refuses a file; its messages are on stderr.
    """
    import grpc_tools
    from grpc_tools import protoc

    sources = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "protos").rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc", f"-I{ROOT}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}",
            f"--grpc_python_out={target}", *sources,
        ]
    )
    if code != 0:
        raise RuntimeError(f"protoc ended with code {code}; its messages are above")
    return sorted(
        path
        for path in (target / "protos").rglob("*_pb2*")
        if path.suffix in {".py", ".pyi"}
    )


if __name__ == "__main__":
    for written in generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT):
        print(written)
