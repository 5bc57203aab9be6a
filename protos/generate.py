"""Writes the Python code of the protos beside them: ``python -m protos.generate [FOLDER]``.

The generated files are kept in the repository, so that nothing has to be generated to install or run; a test writes
them again elsewhere and compares. protoc comes from the grpcio-tools package (of the ``dev`` extra). The root given to
protoc is the repository's, which is why imports inside the protos and inside the generated code begin with ``protos/``.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from google.protobuf import descriptor

ROOT = Path(__file__).resolve().parent.parent


def generate(target: Path = ROOT) -> list[Path]:
    """Compile every proto into ``target`` and return the files written, sorted.

    Raises RuntimeError when protoc refuses a file; its messages are on stderr.
    """
    import grpc_tools  # type: ignore[import-untyped]
    from grpc_tools import protoc

    sources = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "protos").rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"-I{ROOT}",
            f"-I{well_known}",
            f"--python_out={target}",
            f"--pyi_out={target}",
            f"--grpc_python_out={target}",
            *sources,
        ]
    )
    if code != 0:
        raise RuntimeError(f"protoc ended with code {code}; its messages are above")
    for source in sources:
        module = source.removesuffix(".proto").replace("/", ".") + "_pb2"
        path = target / (source.removesuffix(".proto") + "_pb2_grpc.pyi")
        path.write_text(_types(importlib.import_module(module).DESCRIPTOR))
    return sorted(path for path in (target / "protos").rglob("*_pb2*") if path.suffix in {".py", ".pyi"})


def _types(file: descriptor.FileDescriptor) -> str:
    """Types of a file's clients and servers, which protoc writes for the messages only."""
    module = file.name.removesuffix(".proto").replace("/", ".")
    package, _, name = f"{module}_pb2".rpartition(".")
    lines = [
        f'"""Types of the clients and servers of {file.name}. Written by protos.generate; do not edit."""',
        "",
    ]
    services = list(file.services_by_name.values())
    if any(each.client_streaming or each.server_streaming for service in services for each in service.methods):
        lines += ["from collections.abc import Iterator", ""]
    if services:
        lines += ["import grpc", "", f"from {package} import {name}", ""]
    for service in services:
        lines += [f"class {service.name}Stub:", "    def __init__(self, channel: grpc.Channel) -> None: ..."]
        for each in service.methods:
            asked, said = f"{name}.{each.input_type.name}", f"{name}.{each.output_type.name}"
            form = f"{'Stream' if each.client_streaming else 'Unary'}{'Stream' if each.server_streaming else 'Unary'}"
            lines.append(f"    {each.name}: grpc.{form}MultiCallable[{asked}, {said}]")
        lines += ["", f"class {service.name}Servicer:"]
        for each in service.methods:
            asked, said = f"{name}.{each.input_type.name}", f"{name}.{each.output_type.name}"
            given = f"request_iterator: Iterator[{asked}]" if each.client_streaming else f"request: {asked}"
            gives = f"Iterator[{said}]" if each.server_streaming else said
            lines.append(f"    def {each.name}(self, {given}, context: grpc.ServicerContext) -> {gives}: ...")
        lines += [
            "",
            f"def add_{service.name}Servicer_to_server(servicer: {service.name}Servicer, server: grpc.Server) -> None: ...",
            "",
        ]
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    for written in generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT):
        print(written)
