"""``python -m loadtest.empty BYTES``: a grpcio server whose handler does nothing, for comparison.

It answers every method with BYTES zeros, takes and gives raw bytes, and has as many threads as Rapport's own
server by default, so what remains is the transport alone. Prints its address, and ends with SIGTERM or when its
standard input closes.
"""

from __future__ import annotations

import sys
from concurrent import futures

import grpc


class _Anything(grpc.GenericRpcHandler):
    def __init__(self, answer: bytes) -> None:
        def respond(_request: bytes, _context: grpc.ServicerContext) -> bytes:
            return answer

        self._handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(respond)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Every method is served alike."""
        return self._handler


def main() -> None:
    """Serves until standard input closes."""
    server = grpc.server(
        futures.ThreadPoolExecutor(4),
        handlers=[_Anything(bytes(int(sys.argv[1])))],
        options=[("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 1024)],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    server.stop(0).wait()


if __name__ == "__main__":
    main()
