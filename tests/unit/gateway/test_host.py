"""What a host's own words mean for the slots that experiments want."""

import pytest

from gateway.host import Host
from talkmesh.model.v1 import model_pb2

Slot, Model = model_pb2.SlotStatus, model_pb2.ModelStatus
FAILED, ACTIVE = model_pb2.PHASE_FAILED, model_pb2.PHASE_ACTIVE


def host(slot: model_pb2.SlotStatus | None, model: model_pb2.ModelStatus | None = None) -> Host:
    made = Host("tts", "tts", "127.0.0.1:1", lambda host: None)
    made.status = model_pb2.HostStatus(slots=[slot] if slot else [], models=[model] if model else [])
    return made


@pytest.mark.parametrize(
    ("slot", "model", "serves", "error", "trouble"),
    [
        (None, None, False, "", ""),
        (Slot(slot="c", model="joe", generation=3, wanted_model="joe"), None, True, "", ""),
        (Slot(slot="c", model="joe", generation=3), None, True, "", ""),
        # On its way to another, or not getting there: nobody is sent there, and whoever is there stays.
        (Slot(slot="c", model="joe", generation=3, wanted_model="ann"), None, False, "", ""),
        (Slot(slot="c", model="joe", generation=3, wanted_model="ann", error="no file"), None, False, "no file", ""),
        (Slot(slot="c", wanted_model="ann", error="no room"), None, False, "no room", "no room"),
        (
            Slot(slot="c", model="joe", generation=3, wanted_model="ann", error="crash loop: -9"),
            None,
            False,
            "crash loop: -9",
            "crash loop: -9",
        ),
        (Slot(slot="c", model="joe", generation=3), Model(slots=["c"], phase=ACTIVE, last_error="old"), True, "", ""),
        (Slot(slot="c", model="joe", generation=3), Model(slots=["c"], phase=FAILED, last_error="-9"), True, "", "-9"),
        (Slot(slot="c", model="joe", generation=3), Model(slots=["d"], phase=FAILED, last_error="-9"), True, "", ""),
    ],
)
async def test_what_is_served_and_what_is_wrong(
    slot: model_pb2.SlotStatus | None, model: model_pb2.ModelStatus | None, serves: bool, error: str, trouble: str
) -> None:
    made = host(slot, model)
    assert (made.serves("c"), made.error("c"), made.trouble("c")) == (serves, error, trouble)
    await made.channel.close()
