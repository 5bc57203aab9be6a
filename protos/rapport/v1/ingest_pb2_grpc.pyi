"""Types of the clients and servers of protos/rapport/v1/ingest.proto. Written by protos.generate; do not edit."""

from collections.abc import Iterator

import grpc

from protos.rapport.v1 import ingest_pb2

class IngestServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    Ingest: grpc.StreamStreamMultiCallable[ingest_pb2.IngestRequest, ingest_pb2.IngestResponse]
    DescribeStore: grpc.UnaryUnaryMultiCallable[ingest_pb2.DescribeStoreRequest, ingest_pb2.DescribeStoreResponse]
    Import: grpc.StreamStreamMultiCallable[ingest_pb2.ImportRequest, ingest_pb2.ImportResponse]

class IngestServiceServicer:
    def Ingest(self, request_iterator: Iterator[ingest_pb2.IngestRequest], context: grpc.ServicerContext) -> Iterator[ingest_pb2.IngestResponse]: ...
    def DescribeStore(self, request: ingest_pb2.DescribeStoreRequest, context: grpc.ServicerContext) -> ingest_pb2.DescribeStoreResponse: ...
    def Import(self, request_iterator: Iterator[ingest_pb2.ImportRequest], context: grpc.ServicerContext) -> Iterator[ingest_pb2.ImportResponse]: ...

def add_IngestServiceServicer_to_server(servicer: IngestServiceServicer, server: grpc.Server) -> None: ...
