"""Types of the clients and servers of protos/rapport/v1/ingest.proto. Written by protos.generate; do not edit."""

from collections.abc import Iterator

import grpc

from protos.rapport.v1 import ingest_pb2

class IngestServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    Ingest: grpc.StreamStreamMultiCallable[ingest_pb2.IngestRequest, ingest_pb2.IngestResponse]

class IngestServiceServicer:
    def Ingest(self, request_iterator: Iterator[ingest_pb2.IngestRequest], context: grpc.ServicerContext) -> Iterator[ingest_pb2.IngestResponse]: ...

def add_IngestServiceServicer_to_server(servicer: IngestServiceServicer, server: grpc.Server) -> None: ...
