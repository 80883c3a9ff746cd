"""What an engine takes and gives, and whether two neighbours understand each other."""

from google.protobuf import json_format
from pydantic import BaseModel, ConfigDict

from talkmesh.model.v1 import model_pb2


class Interface(BaseModel):
    """Only the fields of an engine's service are set; the meaning of each is at talkmesh.model.v1.Interface."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rates_hz: tuple[int, ...] = ()
    languages: tuple[str, ...] = ()
    phonemes: tuple[str, ...] = ()
    blendshape_names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    voices: tuple[str, ...] = ()
    portraits: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    context_tokens: int = 0

    def proto(self) -> model_pb2.Interface:
        return json_format.ParseDict(self.model_dump(), model_pb2.Interface())


def from_proto(message: model_pb2.Interface) -> Interface:
    """The interface that another host tells of its model."""
    return Interface(**json_format.MessageToDict(message, preserving_proto_field_name=True))
