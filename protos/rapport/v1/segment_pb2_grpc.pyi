"""Types of the clients and servers of protos/rapport/v1/segment.proto. Written by protos.generate; do not edit."""

from collections.abc import Iterator

import grpc

from protos.rapport.v1 import segment_pb2

class SegmentServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    CountSegments: grpc.UnaryStreamMultiCallable[segment_pb2.CountSegmentsRequest, segment_pb2.CountSegmentsResponse]
    ListSegment: grpc.UnaryStreamMultiCallable[segment_pb2.ListSegmentRequest, segment_pb2.ListSegmentResponse]
    WatchSegment: grpc.UnaryStreamMultiCallable[segment_pb2.WatchSegmentRequest, segment_pb2.WatchSegmentResponse]
    ListBands: grpc.UnaryUnaryMultiCallable[segment_pb2.ListBandsRequest, segment_pb2.ListBandsResponse]

class SegmentServiceServicer:
    def CountSegments(self, request: segment_pb2.CountSegmentsRequest, context: grpc.ServicerContext) -> Iterator[segment_pb2.CountSegmentsResponse]: ...
    def ListSegment(self, request: segment_pb2.ListSegmentRequest, context: grpc.ServicerContext) -> Iterator[segment_pb2.ListSegmentResponse]: ...
    def WatchSegment(self, request: segment_pb2.WatchSegmentRequest, context: grpc.ServicerContext) -> Iterator[segment_pb2.WatchSegmentResponse]: ...
    def ListBands(self, request: segment_pb2.ListBandsRequest, context: grpc.ServicerContext) -> segment_pb2.ListBandsResponse: ...

def add_SegmentServiceServicer_to_server(servicer: SegmentServiceServicer, server: grpc.Server) -> None: ...
