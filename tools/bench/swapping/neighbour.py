"""The same service under another name, whose model nobody swaps: `python -m tools.bench.swapping.neighbour --listen …`."""

import grpc

from services.runtime import host, settings
from services.runtime.engine import Identity, Service
from services.runtime.engine_process import service_in
from tools.bench.swapping import fake

NAME = "neighbour"


def attach(server: grpc.aio.Server, engine: fake.FakeEngine, identity: Identity) -> None:
    fake.attach(server, engine, identity)


SERVICE = Service(name=NAME, grpc_name=fake.GRPC_NAME, engines=fake.ENGINES, attach=attach, warm_up=fake.warm_up)

if __name__ == "__main__":
    host.run(service_in("tools.bench.swapping.neighbour"), settings.service_settings(NAME))
