"""Which packets of H.264 hold a single field, half a frame: DVB and AVCHD camcorders code pairs of fields.

Source: ITU-T H.264, 7.3.1 (NAL units), 7.3.2.1 (sequences), 7.3.2.2 (picture parameters), 7.3.3 (slices).
"""

from collections.abc import Iterator

_SLICES, _SEQUENCE, _PICTURE = (1, 5), 7, 8  # types of NAL units
# Profiles whose sequences tell the chroma format
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_HEADER_BYTES = 64  # of a slice; the fields that are read take 20 at most


class FieldCounter:
    """Counts the packets of a stream that hold one field.

    Attributes:
        num_fields: So far.
    """

    def __init__(self, extradata: bytes | None) -> None:
        """Begin with what the container says of the stream beside its packets."""
        self.num_fields = 0
        self._length_bytes = 0  # before each NAL unit; 0: start codes are between them
        self._bits_of_frame_num: dict[
            int, tuple[int, bool]
        ] = {}  # and whether all are frames, by sequence
        self._sequence_of: dict[int, int] = {}  # by picture parameters
        if extradata and extradata[0] == 1 and len(extradata) > 6:
            self._length_bytes = (extradata[4] & 3) + 1
            for unit in _configured(extradata):
                self._learn(unit)
        elif extradata:
            for unit in _between_start_codes(extradata):
                self._learn(unit)

    def add(self, packet: bytes) -> None:
        """Take a packet; one that cannot be understood counts as a frame, and so does a pair of fields."""
        units = self._with_lengths(packet) if self._length_bytes else _between_start_codes(packet)
        begun = 0
        try:
            for unit in units:
                if not unit or unit[0] & 31 not in _SLICES:
                    self._learn(unit)
                    continue
                begins, is_field = self._read_slice(unit)
                if not is_field:
                    return
                begun += begins
        except (IndexError, KeyError):
            return
        self.num_fields += begun == 1

    def _with_lengths(self, packet: bytes) -> Iterator[bytes]:
        at = 0
        while at + self._length_bytes < len(packet):
            start = at + self._length_bytes
            at = start + int.from_bytes(packet[at:start])
            yield packet[start:at]

    def _learn(self, unit: bytes) -> None:
        """Take a parameter set."""
        kind = unit[0] & 31 if unit else 0
        if kind == _SEQUENCE:
            number, *found = _read_sequence(_Bits(unit[1:]))
            self._bits_of_frame_num[number] = (found[0], bool(found[1]))
        elif kind == _PICTURE:
            bits = _Bits(unit[1 : _HEADER_BYTES + 1])
            number = bits.unsigned()
            self._sequence_of[number] = bits.unsigned()

    def _read_slice(self, unit: bytes) -> tuple[bool, bool]:
        """Return whether a slice begins a frame or field, and whether it is of a field."""
        bits = _Bits(unit[1 : _HEADER_BYTES + 1])
        begins, _kind = bits.unsigned() == 0, bits.unsigned()
        frame_num_bits, frames_only = self._bits_of_frame_num[self._sequence_of[bits.unsigned()]]
        if frames_only:
            return begins, False
        bits.take(frame_num_bits)
        return begins, bool(bits.take(1))


def _read_sequence(bits: "_Bits") -> tuple[int, int, int]:
    """Return the number of a sequence, the bits of frame_num and frame_mbs_only_flag."""
    profile = bits.take(8)
    bits.take(16)
    number = bits.unsigned()
    separate = 0
    if profile in _HIGH:
        chroma = bits.unsigned()
        separate = bits.take(1) if chroma == 3 else 0  # 4:4:4
        bits.unsigned()
        bits.unsigned()
        bits.take(1)
        if bits.take(1):
            for index in range(8 if chroma != 3 else 12):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_num_bits = bits.unsigned() + 4 + 2 * separate  # then colour_plane_id comes before it
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.take(1)
        bits.unsigned()
        bits.unsigned()
        for _ in range(bits.unsigned()):
            bits.unsigned()
    bits.unsigned()
    bits.take(1)
    bits.unsigned()
    bits.unsigned()
    return number, frame_num_bits, bits.take(1)


def _skip_scaling_list(bits: "_Bits", size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            code = bits.unsigned()
            change = (code + 1) // 2 if code % 2 else -(code // 2)
            following = (last + change) % 256
        last = following or last


def _configured(extradata: bytes) -> Iterator[bytes]:
    """Yield the parameter sets of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15)."""
    at = 5
    for mask in (31, 255):  # sequences, then pictures
        count = extradata[at] & mask if at < len(extradata) else 0
        at += 1
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2])
            yield extradata[at + 2 : at + 2 + size]
            at += 2 + size


def _between_start_codes(data: bytes) -> Iterator[bytes]:
    at = data.find(b"\0\0\1")
    while at >= 0:
        following = data.find(b"\0\0\1", at + 3)
        yield data[at + 3 : following if following >= 0 else len(data)]
        at = following


class _Bits:
    """Reads bits, the highest first; raises IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        plain = data.replace(b"\0\0\3", b"\0\0")  # the third byte keeps start codes out of the data
        self._value, self._left = int.from_bytes(plain), 8 * len(plain)

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        self._left -= count
        if self._left < 0:
            raise IndexError
        return self._value >> self._left & ((1 << count) - 1)

    def unsigned(self) -> int:
        """Return the next Exp-Golomb code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
