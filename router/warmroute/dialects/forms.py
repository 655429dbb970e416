"""A form with a file in it (multipart/form-data, RFC 7578), of which only the model's name is looked for.

Clients' libraries write text fields before files, so the name is in the first few hundred bytes, and the rest
of the body need never be seen whole. The scanner is shown the beginning of the body as often as it has grown,
and goes on where it left off.
"""

from __future__ import annotations

import re
from typing import Final

from warmroute.dialects.request import BadRequest, Buffer, model_of

SCANNED_BYTES_MAX: Final = 64 * 1024
"""Fields that come before the model's name are short."""

_FIELD: Final = b"model"

# RFC 2046 allows 70 characters.
_BOUNDARY_BYTES_MAX: Final = 256

# A quoted value may hold what separates parameters.
_PARAMETER: Final = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))', re.DOTALL)

_DISPOSITION: Final = re.compile(rb"\r\ncontent-disposition:\s*form-data\s*(;[^\r\n]*)", re.IGNORECASE)


def boundary_of(content_type: bytes) -> bytes | None:
    """What separates the parts of the form that has this Content-Type; None: it does not say."""
    boundary = _parameters(content_type[content_type.find(b";") :]).get(b"boundary", b"")
    return boundary if 0 < len(boundary) <= _BOUNDARY_BYTES_MAX else None


class ModelField:
    """Looks for the text field `model`. State: the part that it is in, and how far it has looked."""

    def __init__(self, boundary: bytes) -> None:
        self.model = ""
        """The name, once it was found."""
        self.done = False
        """More of the body would tell nothing more."""
        self.ended = False
        """The form was seen to its end."""
        self._delimiter = b"\r\n--" + boundary
        self._part_at = -1
        """Behind the last delimiter; -1: there was none."""
        self._from = 0
        """No delimiter begins before it, but for that one."""

    def look(self, begun: Buffer | bytearray, *, whole: bool = False) -> None:
        """Writes. Shows it all of the body that is there by now; where that is the whole of it, it is looked
        through to its end. Raises BadRequest for a name that is none."""
        most = len(begun) if whole else SCANNED_BYTES_MAX
        data = begun if isinstance(begun, bytes | bytearray) else bytes(begun[:most])
        while not self.done:
            at = self._delimiter_in(data, most)
            end = at + len(self._delimiter)
            behind = bytes(data[end : end + 2])
            if at == -1 or len(behind) < 2:
                break
            if behind not in (b"--", b"\r\n") and behind[0] not in b" \t":
                self._from = max(1, at + 1)  # another line that begins as a delimiter does
                continue
            self.model = "" if self._part_at < 0 else _model_in(bytes(data[self._part_at : at]))
            self._part_at = self._from = end
            self.ended = not self.model and behind == b"--"
            self.done = self.ended or self.model != ""
        self.done = self.done or len(data) >= most

    def _delimiter_in(self, data: bytes | bytearray, most: int) -> int:
        """Where the next one begins; -1: there is none yet. The first has no line end before it: -2."""
        if self._from == 0 and data.startswith(self._delimiter[2:]):
            return -2
        at = data.find(self._delimiter, self._from, most)
        # The last bytes may be the beginning of one.
        self._from = at if at >= 0 else max(self._from, len(data) - len(self._delimiter) + 1)
        return at


def _model_in(part: bytes) -> str:
    """The name, if this is the part that holds it: the rest of a delimiter's line, a head, a value."""
    head, empty_line, value = part.partition(b"\r\n\r\n")
    found = _DISPOSITION.search(head)
    if not empty_line or found is None:
        return ""
    parameters = _parameters(found[1])
    if parameters.get(b"name") != _FIELD or b"filename" in parameters:
        return ""
    try:
        return model_of(value.decode())
    except UnicodeDecodeError as error:
        raise BadRequest("the form's field `model` is not UTF-8") from error


def _parameters(text: bytes) -> dict[bytes, bytes]:
    """What stands behind the semicolons of a header field, names in lower case."""
    return {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(text)}
