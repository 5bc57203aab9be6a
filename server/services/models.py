"""ModelService: brings versions of models to the registry's gate, lists them, and returns to earlier ones.

A deployment takes seconds (it is tried in a child process first) on a thread of the control plane; decisions go on with
the version that serves.
"""

from __future__ import annotations

from typing import Final

import grpc

from core import limits
from core.errors import BadValue, TooLarge
from core.inference.package import DESCRIPTION_FILE, MODEL_FILE
from core.inference.registry import Registry, State, Version
from protos.rapport.v1 import model_pb2
from server import convert, logs
from server.services import calls

NAME: Final = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
_STATES: Final = {
    State.LIVE: model_pb2.MODEL_STATE_LIVE,
    State.READY: model_pb2.MODEL_STATE_READY,
    State.REFUSED: model_pb2.MODEL_STATE_REFUSED,
    State.RETIRED: model_pb2.MODEL_STATE_RETIRED,
}


class ModelService:
    """The calls of rapport.v1.ModelService over a registry."""

    def __init__(self, registry: Registry, message_bytes: int) -> None:
        self._registry = registry
        self._message_bytes = message_bytes

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service as grpcio registers it."""
        most = self._message_bytes
        return calls.handlers(
            NAME,
            {
                "DeployModel": calls.unary(model_pb2.DeployModelRequest, self.deploy, most),
                "ListModels": calls.unary(model_pb2.ListModelsRequest, self.list, most),
                "RollbackModel": calls.unary(model_pb2.RollbackModelRequest, self.rollback, most),
            },
        )

    def deploy(
        self, message: model_pb2.DeployModelRequest, context: calls.Context
    ) -> model_pb2.DeployModelResponse:
        """Take a version from bytes, or from the repository, and make it live."""
        _named(message.name)
        if not message.files:
            if not message.version:
                raise BadValue(
                    "version",
                    "is absent, and so are the files",
                    "Send model.onnx and model.yaml, or the number of a version that lies in the repository.",
                )
            version = self._registry.activate(message.name, message.version)
        else:
            known = {MODEL_FILE, DESCRIPTION_FILE}
            if set(message.files) != known:
                raise BadValue(
                    "files", f"has {', '.join(sorted(message.files))}", f"Send {' and '.join(sorted(known))}."
                )
            size = sum(len(content) for content in message.files.values())
            if size > limits.MODEL_BYTES:
                raise TooLarge("the model's files in bytes", size, limits.MODEL_BYTES)
            number = message.version or 1 + max(
                (each.version for each in self._registry.versions(message.name)), default=0
            )
            version = self._registry.deploy(
                message.name, number, message.files[MODEL_FILE], message.files[DESCRIPTION_FILE]
            )
        logs.get("models").info("model deployed", model=version.label, state=version.state.value)
        return model_pb2.DeployModelResponse(model=_shown(version))

    def list(
        self, message: model_pb2.ListModelsRequest, context: calls.Context
    ) -> model_pb2.ListModelsResponse:
        """Every version known."""
        return model_pb2.ListModelsResponse(
            models=[_shown(each) for each in self._registry.versions(message.name)]
        )

    def rollback(
        self, message: model_pb2.RollbackModelRequest, context: calls.Context
    ) -> model_pb2.RollbackModelResponse:
        """Back to the version that served before, or to one named."""
        _named(message.name)
        if message.version:
            version = self._registry.activate(message.name, message.version)
        else:
            version = self._registry.rollback(message.name)
        logs.get("models").info("model rolled back", model=version.label)
        return model_pb2.RollbackModelResponse(model=_shown(version))


def _named(name: str) -> None:
    if not name:
        raise BadValue("name", "is empty", "Send the model's name.")


def _shown(version: Version) -> model_pb2.ModelVersion:
    return model_pb2.ModelVersion(
        name=version.name,
        version=version.version,
        state=_STATES[version.state],
        cause=version.cause,
        digest=version.digest,
        since=convert.instant(version.since_us) if version.since_us else None,
    )
