"""Types of the clients and servers of protos/rapport/v1/model.proto. Written by protos.generate; do not edit."""

import grpc

from protos.rapport.v1 import model_pb2

class ModelServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    DeployModel: grpc.UnaryUnaryMultiCallable[model_pb2.DeployModelRequest, model_pb2.DeployModelResponse]
    ListModels: grpc.UnaryUnaryMultiCallable[model_pb2.ListModelsRequest, model_pb2.ListModelsResponse]
    RollbackModel: grpc.UnaryUnaryMultiCallable[model_pb2.RollbackModelRequest, model_pb2.RollbackModelResponse]

class ModelServiceServicer:
    def DeployModel(self, request: model_pb2.DeployModelRequest, context: grpc.ServicerContext) -> model_pb2.DeployModelResponse: ...
    def ListModels(self, request: model_pb2.ListModelsRequest, context: grpc.ServicerContext) -> model_pb2.ListModelsResponse: ...
    def RollbackModel(self, request: model_pb2.RollbackModelRequest, context: grpc.ServicerContext) -> model_pb2.RollbackModelResponse: ...

def add_ModelServiceServicer_to_server(servicer: ModelServiceServicer, server: grpc.Server) -> None: ...
