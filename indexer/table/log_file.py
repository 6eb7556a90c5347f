"""Where a log of LevelDB ends: with a whole record, in one that a power cut tore, or in damage.

LevelDB itself compares the checksum of every record, but takes a record that claims to go on
behind the end of its file for a torn one, and skips what stands behind a header of zeros. What
must stay true: only what a power cut leaves (the file ends, or is zeros, from some octet on) is
called torn. The format: doc/log_format.md of LevelDB; the manifest has it too.
"""

_BLOCK = 32 * 1024
_HEADER = 7  # checksum (4), length (2), type (1)
_FULL, _FIRST, _LAST = 1, 2, 4
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reflected (RFC 3720 appendix B.4)


class DamagedLog(ValueError):
    """No writer and no power cut leaves these bytes; ``str()`` of it says which."""


def torn_at(log: bytes) -> int | None:
    """Where the write that a power cut tore begins; None: the log ends with a whole one.

    Checksums are compared only where LevelDB does not. Raises ``DamagedLog``.
    """
    end = len(log.rstrip(b"\0"))
    at = began = 0
    while at < end:
        block_end = at - at % _BLOCK + _BLOCK
        if block_end - at < _HEADER:
            at = block_end
            continue
        if at + _HEADER > end:
            return began
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        stop = at + _HEADER + length
        if not _FULL <= kind <= _LAST or stop > block_end:
            raise DamagedLog(f"no record can begin at byte {at}")
        if kind in (_FULL, _FIRST):
            began = at
        if stop > end:
            whole = _whole_length(log[at : min(stop, len(log))])
            if whole is None:
                return began
            if whole != length:
                raise DamagedLog(f"the length of the record at byte {at} is wrong")
        at = stop
        if kind in (_FULL, _LAST):
            began = at
    return None if began == len(log) else began


def _whole_length(record: bytes) -> int | None:
    """The length at which what stands behind the header has its checksum; None: at none."""
    rotated = (int.from_bytes(record[:4], "little") - 0xA282EAD8) % 2**32
    wanted = (rotated >> 17 | rotated << 15) % 2**32 ^ 0xFFFFFFFF
    found, crc = None, 0xFFFFFFFF
    for length, octet in enumerate(record[_HEADER - 1 :]):
        crc = _TABLE[(crc ^ octet) & 0xFF] ^ crc >> 8
        if crc == wanted:
            found = length
    return found


def _remainder(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ _POLYNOMIAL * (number & 1)
    return number


_TABLE = [_remainder(number) for number in range(256)]
