"""The words of what the data plane refuses by itself, made once from the one tree of errors and the one table of statuses."""

from __future__ import annotations

from google.rpc import error_details_pb2, status_pb2

from core import errors, limits
from server import status
from server.services import calls

# An overloaded loop's queue is empty again in far less; clients that come back at once would only be refused again.
RETRY_AFTER_MS = 50


def table(message_bytes: int) -> dict[str, tuple[int, str, bytes]]:
    """For each of `plane.REFUSED`: the gRPC status, its text, and a google.rpc.Status with the details."""
    told = {
        "method": errors.NotServed("This method", calls.UNKNOWN_METHOD),
        "metadata": errors.PastLimit("The call's header fields", limits.METADATA_BYTES),
        "message": errors.PastLimit("The request's message", message_bytes),
        "framing": errors.BadValue(
            "request", "is not one whole length-prefixed message", "A unary call sends exactly one, uncompressed."
        ),
        "compressed": errors.NotServed("A compressed request", "Send it uncompressed (grpc-encoding: identity)."),
        "timeout": errors.BadValue("grpc-timeout", "is not up to eight digits and one of H, M, S, m, u, n"),
        "expired": errors.DeadlineTooShort(),
        "overload": errors.Overloaded("work", RETRY_AFTER_MS),
        "memory": errors.Overloaded("memory in use", RETRY_AFTER_MS),
        "service": errors.NotFound(
            "Service", "", "Ask for the whole server ('') or for rapport.v1.DecisionService.",
            "The health of this service is not known here.",
        ),
    }
    words = {name: _packed(status.describe(error)) for name, error in told.items()}
    fault = status_pb2.Status(
        code=status.number(status.CODES[errors.EngineFault]), message="Something failed inside the server before it answered."
    )
    fault.details.add().Pack(error_details_pb2.ErrorInfo(reason=errors.EngineFault.reason, domain=status.DOMAIN))
    words["fault"] = _packed(fault)
    # A broken client's, not a caller's: gRPC's doc/compression.md, test case 6, wants INTERNAL and the flag named.
    flag = status.describe(errors.BadValue(
        "request", "has its Compressed-Flag set, and grpc-encoding names none", "Send it uncompressed, with the flag 0.",
    ))
    flag.code = status.number(status.CODES[errors.EngineFault])
    words["flag"] = _packed(flag)
    return words


def _packed(told: status_pb2.Status) -> tuple[int, str, bytes]:
    return told.code, told.message, told.SerializeToString()
