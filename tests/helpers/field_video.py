"""H.264 as DVB and AVCHD camcorders code it: each frame as a pair of fields, which no encoder here writes.

Pictures are of uncompressed macroblocks (I_PCM), so a writer is short. Source: ITU-T H.264, 7.3 and 9.1.
"""

import numpy as np

SIDE = 32  # px of a frame, a field has half of the lines
_START = b"\0\0\0\1"


class _Writer:
    """Bits, the highest first."""

    def __init__(self) -> None:
        self._bits = ""

    def number(self, value: int, size: int) -> "_Writer":
        self._bits += format(value, f"0{size}b")
        return self

    def code(self, *values: int) -> "_Writer":
        for value in values:  # Exp-Golomb
            text = format(value + 1, "b")
            self._bits += "0" * (len(text) - 1) + text
        return self

    def align(self, bit: str) -> "_Writer":
        self._bits += bit * (-len(self._bits) % 8)
        return self

    def unit(self, header: int) -> bytes:
        """Return the bits as a NAL unit, with what ends it and what keeps start codes out of it."""
        self.number(1, 1).align("0")
        data = bytearray()
        for byte in int(self._bits, 2).to_bytes(len(self._bits) // 8):
            if data[-2:] == b"\0\0" and byte <= 3:
                data.append(3)
            data.append(byte)
        return _START + bytes([header]) + bytes(data)


def field_video(num_frames: int, *, whole: frozenset[int] = frozenset()) -> list[bytes]:
    """Return packets: parameter sets with the first field, then a packet per field, or per whole frame.

    Args:
        num_frames: Of the video.
        whole: Frames that are coded as one picture.
    """
    sequence = _Writer().number(77, 8).number(0, 8).number(30, 8)  # main profile, level 3
    sequence.code(0, 0, 2, 0).number(
        0, 1
    )  # id, 4 bits of frame_num, order as decoded, no reference
    sequence.code(SIDE // 16 - 1, SIDE // 32 - 1).number(0, 1).number(
        0, 1
    )  # not only frames; no MBAFF
    sequence.number(1, 1).number(0, 1).number(0, 1)  # direct_8x8; no cropping; no VUI
    pictures = _Writer().code(0, 0).number(0, 1).number(0, 1)  # CAVLC; no picture order
    pictures.code(0, 0, 0).number(0, 3).code(0, 0, 0).number(0, 3)
    sets = sequence.unit(0x67) + pictures.unit(0x68)
    packets = []
    for number in range(num_frames):
        if number in whole:
            packets.append(_picture(number, None))
        else:
            packets += [_picture(number, bottom) for bottom in (0, 1)]
    return [sets + packets[0], *packets[1:]]


def _picture(number: int, bottom: int | None) -> bytes:
    """Return a picture whose gray tells its number: an IDR frame, or a field of one."""
    bits = (
        _Writer().code(0, 7, 0).number(0, 4)
    )  # first macroblock, an I slice, parameters, frame_num
    bits.number(bottom is not None, 1)
    if bottom is not None:
        bits.number(bottom, 1)
    bits.code(number % 2)  # idr_pic_id
    bits.number(0, 2).code(0)  # dec_ref_pic_marking; slice_qp_delta
    lines = SIDE if bottom is None else SIDE // 2
    gray = np.full(384, 16 + 8 * number % 200, np.uint8).tolist()
    for _ in range(SIDE * lines // 256):
        bits.code(25).align("0")  # I_PCM
        for value in gray:
            bits.number(value, 8)
    return bits.unit(0x65)
