"""H.264 access units: from Annex B, as encoders write them, to what containers with a header of their own want."""

from dataclasses import dataclass

SPS, PPS, DELIMITER = 7, 8, 9
HIGH_PROFILES = (100, 110, 122, 244)
EIGHT_BIT_420 = b"\xfd\xf8\xf8\x00"


@dataclass(frozen=True)
class ParameterSets:
    """What a decoder has to know before the first picture."""

    sps: bytes
    pps: bytes

    def configuration(self) -> bytes:
        """An AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1) for units with lengths of four bytes."""
        profile_to_level = self.sps[1:4]
        sps = b"\xe1" + len(self.sps).to_bytes(2, "big") + self.sps
        pps = b"\x01" + len(self.pps).to_bytes(2, "big") + self.pps
        # What renderers make is always 4:2:0 with 8 bits, whatever their profile.
        format_ = EIGHT_BIT_420 if self.sps[1] in HIGH_PROFILES else b""
        return b"\x01" + profile_to_level + b"\xff" + sps + pps + format_


def units(data: bytes) -> list[bytes]:
    """The NAL units of an Annex B access unit, without start codes."""
    # An encoder never writes a unit that ends with a zero byte; what stands there belongs to a long start code.
    parts = data.split(b"\x00\x00\x01")[1:]
    return [unit for part in parts if (unit := part.rstrip(b"\x00"))]


def parameter_sets(found: list[bytes]) -> ParameterSets | None:
    """The parameter sets among the units of an access unit, if both are there."""
    by_type = {unit[0] & 0x1F: unit for unit in found}
    if SPS in by_type and PPS in by_type and len(by_type[SPS]) >= 4:
        return ParameterSets(by_type[SPS], by_type[PPS])
    return None


def with_lengths(found: list[bytes]) -> bytes:
    """The units that a container holds in its samples, each behind its length; parameter sets are in its header."""
    held = (unit for unit in found if unit[0] & 0x1F not in (SPS, PPS, DELIMITER))
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in held)
