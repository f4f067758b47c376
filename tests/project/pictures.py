"""Images to upload: made in code, with something to see on them."""

from __future__ import annotations

import math
import struct
import zlib


def png(hue: float, width: int = 640, height: int = 400) -> bytes:
    """Hills under a sky; *hue*: 0 to 1."""

    def colour(shift: float, light: float) -> bytes:
        parts = (0.5 + 0.5 * math.cos(2 * math.pi * (hue + shift + offset)) for offset in (0, 1 / 3, 2 / 3))
        return bytes(min(255, round(255 * (light * 0.55 + part * 0.45 * light))) for part in parts)

    rows = []
    hills = [[height * (0.45 + 0.16 * k + 0.07 * math.sin(x / (90 - 20 * k) + k * 2 + hue * 9)) for x in range(width)]
             for k in range(3)]  # fmt: skip
    ground = [colour(0.08 * k, 0.9 - 0.2 * k) for k in range(3)]
    for y in range(height):
        sky = colour(-0.12, 1.25 - 0.35 * y / height)
        row = bytearray()
        for x in range(width):
            pixel = sky
            for k in range(3):
                if y > hills[k][x]:
                    pixel = ground[k]
            row += pixel
        rows.append(b"\0" + bytes(row))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 6)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body
