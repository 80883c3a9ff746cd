"""An OpenFeature provider: the mesh's flags for anybody's code, evaluated in its own process as the gateway does it.

    from openfeature import api
    from talkmesh.openfeature import TalkmeshProvider

    api.set_provider(TalkmeshProvider("127.0.0.1:7400"))
    api.get_client().get_string_value("voice", "heart", EvaluationContext("alice", {"country": "CN"}))

A flag's value is the name of the variant as a string, whether it is another than the control's as a boolean, and the variant
with its slots as an object; without a variant it is the caller's default. Needs `pip install 'talkmesh[openfeature]'`.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import grpc
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from gateway.experiments.assignment import Decision, Evaluator
from gateway.experiments.contexts import of_context
from gateway.experiments.flags import Flag
from services.runtime.desired import parsed
from services.runtime.errors import InvalidInput
from talkmesh.admin.v1 import admin_pb2, admin_pb2_grpc
from talkmesh.client import DEFAULT_ADDRESS
from talkmesh.credentials import token_for
from talkmesh.flow import FLOW_CONTROL

POLL_S, PATIENCE_S = 2.0, 5.0
Value = TypeVar("Value")
ValueOf = Callable[[Decision, Flag], Value]


class Known:
    """One flag as the gateway told it."""

    def __init__(self, told: admin_pb2.Flag) -> None:
        """Raises InvalidInput for a value that cannot be read."""
        self.told = told
        self.flag = parsed(Flag, told.json)
        self.evaluator = Evaluator(told.flag, self.flag)

    @property
    def gives(self) -> bool:
        """Whether anybody gets anything of it now."""
        return not self.told.lacks and self.flag.state in ("on", "held")


class TalkmeshProvider(AbstractProvider):
    """Asks the gateway every few seconds which flags there are, and no one for a decision.

    Without the gateway it goes on with what it knows, and says PROVIDER_STALE.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, poll_s: float = POLL_S, token: str = "") -> None:
        """`token`: what the gateway lets in; without one it is looked for as the other clients do."""
        super().__init__()
        self._address = address
        self._poll_s = poll_s
        found = token_for(address, token)
        self._metadata = (("authorization", f"Bearer {found}"),) if found else ()
        self._flags: dict[str, Known] = {}
        self._ready = self._stale = False
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def get_metadata(self) -> Metadata:
        return Metadata("talkmesh")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Learn the flags. Raises ProviderNotReadyError when the gateway does not answer."""
        self._channel = grpc.insecure_channel(self._address, options=FLOW_CONTROL)
        self._stub = admin_pb2_grpc.AdminServiceStub(self._channel)
        try:
            self._learn()
        except grpc.RpcError as error:
            self._channel.close()
            raise ProviderNotReadyError(f"{self._address}: {error}") from error
        self._thread = threading.Thread(target=self._follow, name="talkmesh-flags", daemon=True)
        self._thread.start()

    def shutdown(self) -> None:
        """Ask nobody any more."""
        self._over.set()
        if self._thread:
            self._thread.join(PATIENCE_S)
            self._channel.close()

    def _follow(self) -> None:
        while not self._over.wait(self._poll_s):
            try:
                changed = self._learn()
            except grpc.RpcError as error:
                if not self._stale:
                    self._stale = True
                    self.emit_provider_stale(ProviderEventDetails(message=f"{self._address}: {error}"))
                continue
            if self._stale:
                self._stale = False
                self.emit_provider_ready(ProviderEventDetails())
            if changed:
                self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=changed))

    def _learn(self) -> list[str]:
        """Ask for all flags; the names of those that are not what they were."""
        request = admin_pb2.ListFlagsRequest()
        listed = self._stub.ListFlags(request, timeout=PATIENCE_S, metadata=self._metadata)
        before, now = self._flags, dict[str, Known]()
        for told in listed.flags:
            try:
                now[told.flag] = Known(told)
            except InvalidInput:
                # As the gateways: what it said before holds on.
                if told.flag in before:
                    now[told.flag] = before[told.flag]
        self._flags, self._ready = now, True
        names = before.keys() | now.keys()
        return sorted(each for each in names if key_of(before.get(each)) != key_of(now.get(each)))

    # --- decisions ---------------------------------------------------------------------------------------------------

    def _decide(self, key: str, context: EvaluationContext | None) -> Decision | None:
        """None for a flag that there is not, or that gives nothing to anybody."""
        known = self._flags[key]
        if not known.gives:
            return None
        attributes = dict(context.attributes) if context else {}
        units, found = of_context((context.targeting_key if context else "") or "", attributes)
        return known.evaluator.decide(units, found, time.time())

    def _resolved(
        self, key: str, default: Value, context: EvaluationContext | None, value_of: ValueOf[Value]
    ) -> FlagResolutionDetails[Value]:
        if not self._ready:
            return FlagResolutionDetails(
                default, ErrorCode.PROVIDER_NOT_READY, "the flags are not known yet", Reason.ERROR
            )
        if key not in self._flags:
            return FlagResolutionDetails(default, ErrorCode.FLAG_NOT_FOUND, f"there is no flag {key!r}", Reason.ERROR)
        decision = self._decide(key, context)
        if decision is None or not decision.variant:
            return FlagResolutionDetails(default, reason=decision.reason.value if decision else Reason.DISABLED)
        reason = Reason.STALE if self._stale else decision.reason.value
        value = value_of(decision, self._flags[key].flag)
        return FlagResolutionDetails(value, reason=reason, variant=decision.variant)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """The variant's name."""
        return self._resolved(flag_key, default_value, evaluation_context, lambda decision, flag: decision.variant)

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """Whether it is another variant than the control."""
        return self._resolved(
            flag_key, default_value, evaluation_context, lambda decision, flag: decision.variant != flag.control
        )

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """The variant, with its slots or its bundle."""
        return self._resolved(flag_key, default_value, evaluation_context, described)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Variants are no numbers."""
        return mismatched(default_value)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Variants are no numbers."""
        return mismatched(default_value)


def mismatched(default: Value) -> FlagResolutionDetails[Value]:
    return FlagResolutionDetails(default, ErrorCode.TYPE_MISMATCH, "a variant is no number", Reason.ERROR)


def described(decision: Decision, flag: Flag) -> Mapping[str, FlagValueType]:
    return {"variant": decision.variant, **json.loads(flag.variants[decision.variant].model_dump_json())}


def key_of(known: Known | None) -> tuple[int, bool] | None:
    return (known.told.revision, known.gives) if known else None
