"""As much of the Open Inference Protocol (V2, gRPC) as the load needs, made at run time: the peers' packages, which bring it
along, do not go with ours into one environment.

The numbers are those of the protocol's grpc_predict_v2.proto.
"""

from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
STREAM_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
LOAD_METHOD = "/inference.GRPCInferenceService/RepositoryModelLoad"
READY_METHOD = "/inference.GRPCInferenceService/ModelReady"
MODEL = "fake"
Field = descriptor_pb2.FieldDescriptorProto
STRING, BYTES, INT64, BOOL, MESSAGE = (
    Field.TYPE_STRING,
    Field.TYPE_BYTES,
    Field.TYPE_INT64,
    Field.TYPE_BOOL,
    Field.TYPE_MESSAGE,
)


def field(
    name: str,
    number: int,
    kind: descriptor_pb2.FieldDescriptorProto.Type.ValueType,
    repeated: bool = False,
    of: str = "",
) -> Field:
    label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    type_name = f".{PACKAGE}.{of}" if of else None
    return Field(name=name, number=number, type=kind, label=label, type_name=type_name)


def message(name: str, *fields: Field) -> descriptor_pb2.DescriptorProto:
    return descriptor_pb2.DescriptorProto(name=name, field=fields)


def classes(*messages: descriptor_pb2.DescriptorProto) -> Sequence[Any]:
    """The messages as classes, in a pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="v2.proto", package=PACKAGE, syntax="proto3", message_type=messages)
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"{PACKAGE}.{each.name}") for each in messages)
    return [message_factory.GetMessageClass(descriptor) for descriptor in found]


Contents, Tensor, InferRequest, InferResponse, LoadRequest, LoadResponse, ReadyRequest, ReadyResponse = classes(
    message("Contents", field("bytes_contents", 8, BYTES, repeated=True)),
    message(
        "Tensor",
        field("name", 1, STRING),
        field("datatype", 2, STRING),
        field("shape", 3, INT64, repeated=True),
        field("contents", 5, MESSAGE, of="Contents"),
    ),
    message(
        "InferRequest",
        field("model_name", 1, STRING),
        field("id", 3, STRING),
        field("inputs", 5, MESSAGE, repeated=True, of="Tensor"),
    ),
    message(
        "InferResponse",
        field("model_name", 1, STRING),
        field("id", 3, STRING),
        field("outputs", 5, MESSAGE, repeated=True, of="Tensor"),
    ),
    message("LoadRequest", field("model_name", 2, STRING)),
    message("LoadResponse"),
    message("ReadyRequest", field("name", 1, STRING)),
    message("ReadyResponse", field("ready", 1, BOOL)),
)


def request(model: str, data: bytes) -> Any:
    """One tensor of one string, for `model`."""
    tensor = Tensor(name="input", datatype="BYTES", shape=[1], contents=Contents(bytes_contents=[data]))
    return InferRequest(model_name=model, inputs=[tensor])


def text(response: Any) -> str:
    """The one string in a response."""
    data: bytes = response.outputs[0].contents.bytes_contents[0]
    return data.decode()
