"""ProgramService: checks, loads, lists and returns to versions of programs.

Loading compiles for seconds on a thread of the control plane while decisions go on with the plan they began with; one load
at a time, since the second would build on what the first replaces.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Final

import grpc

from core.errors import BadValue, NoProgram, NotFound, ProgramError
from core.outcomes import ProgramVersion
from protos.rapport.v1 import program_pb2
from server import convert, logs
from server.ports import Programs
from server.services import calls

NAME: Final = program_pb2.DESCRIPTOR.services_by_name["ProgramService"].full_name


class ProgramService:
    """The calls of rapport.v1.ProgramService over `Programs`. ``activated`` is told after each change."""

    def __init__(self, engine: Programs, message_bytes: int, activated: Callable[[str], None]) -> None:
        self._engine = engine
        self._message_bytes = message_bytes
        self._activated = activated
        self._one_at_a_time = threading.Lock()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service as grpcio registers it."""
        most = self._message_bytes
        return calls.handlers(
            NAME,
            {
                "ValidateProgram": calls.unary(program_pb2.ValidateProgramRequest, self.validate, most),
                "LoadProgram": calls.unary(program_pb2.LoadProgramRequest, self.load, most),
                "ListPrograms": calls.unary(program_pb2.ListProgramsRequest, self.list, most),
                "GetProgram": calls.unary(program_pb2.GetProgramRequest, self.get, most),
                "RollbackProgram": calls.unary(program_pb2.RollbackProgramRequest, self.rollback, most),
            },
        )

    def validate(
        self, message: program_pb2.ValidateProgramRequest, context: calls.Context
    ) -> program_pb2.ValidateProgramResponse:
        """Check without loading; problems are the answer."""
        try:
            program = self._engine.validate_program(_files(message.files))
        except ProgramError as error:
            return program_pb2.ValidateProgramResponse(
                problems=[
                    program_pb2.ProgramProblem(
                        file=each.where.file,
                        line=each.where.line,
                        column=each.where.column,
                        message=each.message,
                        hint=each.hint,
                    )
                    for each in error.problems
                ]
            )
        lost = self._engine.losses(program, calls.now_us())
        return program_pb2.ValidateProgramResponse(
            digest=program.digest, offers=len(program.offers),
            losses=[
                program_pb2.EventLoss(
                    event=each.event, kept=convert.duration(each.kept_us), events=each.events, more=not lost.complete,
                    before=convert.duration(each.before_us) if each.before_us else None,
                )
                for each in lost.types
            ],
        )

    def load(
        self, message: program_pb2.LoadProgramRequest, context: calls.Context
    ) -> program_pb2.LoadProgramResponse:
        """Check, keep and activate."""
        files = _files(message.files)
        with self._one_at_a_time:
            version = self._engine.load_program(files, calls.now_us(), accept_loss=message.accept_loss)
        self._say("program loaded", version)
        return program_pb2.LoadProgramResponse(program=convert.program_to(self._version(version)))

    def list(
        self, message: program_pb2.ListProgramsRequest, context: calls.Context
    ) -> program_pb2.ListProgramsResponse:
        """Versions kept, newest first."""
        return program_pb2.ListProgramsResponse(
            programs=[convert.program_to(each) for each in self._engine.programs()]
        )

    def get(
        self, message: program_pb2.GetProgramRequest, context: calls.Context
    ) -> program_pb2.GetProgramResponse:
        """One version with its sources."""
        found = self._version(message.version)
        return program_pb2.GetProgramResponse(
            program=convert.program_to(found), files=self._engine.program_sources(found.version)
        )

    def rollback(
        self, message: program_pb2.RollbackProgramRequest, context: calls.Context
    ) -> program_pb2.RollbackProgramResponse:
        """Back to an earlier version."""
        with self._one_at_a_time:
            version = self._engine.rollback_program(message.version, calls.now_us(), accept_loss=message.accept_loss)
        self._say("program rolled back", version)
        return program_pb2.RollbackProgramResponse(program=convert.program_to(self._version(version)))

    def _say(self, what: str, version: str) -> None:
        logs.get("programs").info(what, program=version)
        self._activated(version)

    def _version(self, version: str) -> ProgramVersion:
        """The version kept under this name, '' the active one."""
        for each in self._engine.programs():
            if each.version == version or (not version and each.active):
                return each
        if not version:
            raise NoProgram
        raise NotFound("Program version", version, hint="rapport program list shows what is kept.")


def _files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The program's files; names must stay inside the folder, since they are shown and may be written out again."""
    if not files:
        raise BadValue("files", "is empty", "Send the program's files by their path inside its folder.")
    for name in files:
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise BadValue(
                "files", f"'{name}' is not a path inside the folder", "Use names such as offers/cards.yaml."
            )
    return dict(files)
