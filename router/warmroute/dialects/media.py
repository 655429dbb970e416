"""Bodies that are no JSON: forms with a file, and plain audio, images or video.

Nothing in them is a prompt, so they are passed on while they come, and are never held whole. Which model is
meant says a field of the form, or the URL.
"""

from __future__ import annotations

from typing import Final

from warmroute.dialects.endpoints import FORMS, PARSERS
from warmroute.dialects.forms import ModelField, boundary_of
from warmroute.dialects.query import model_in
from warmroute.dialects.request import BadRequest, Buffer, ParsedRequest

_BINARY: Final = (b"audio/", b"video/", b"image/", b"application/octet-stream")


class Media:
    """How the model is found in bodies of one kind. Not to be written."""

    __slots__ = ("_boundary", "model", "names_model")

    def __init__(self, boundary: bytes | None, model: str, *, names_model: bool) -> None:
        self._boundary = boundary
        """None: it is no form."""
        self.model = model
        """As the URL names it; empty: it does not."""
        self.names_model = names_model
        """A form of this endpoint has a field for it."""

    def scanner(self) -> ModelField | None:
        """What looks for the model in a body; None: nothing would be found there."""
        return None if self.model or self._boundary is None else ModelField(self._boundary)

    def parse(self, body: Buffer) -> ParsedRequest:
        """A whole body, as any dialect reads it. Raises BadRequest."""
        scanner = self.scanner()
        if scanner is None:
            return ParsedRequest(self.model, has_prompt=False)
        scanner.look(body, whole=True)
        return ParsedRequest(scanner.model, has_prompt=False)


def media_of(path: str, content_type: bytes, target: bytes) -> Media | None:
    """How to read the body of an inference request; None: as its endpoint's dialect does. Raises BadRequest
    for a form that cannot be read, and for a model's name that is none."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        boundary = boundary_of(content_type)
        if boundary is None:
            raise BadRequest("multipart/form-data without a boundary")
        return Media(boundary, model_in(target), names_model=path in FORMS)
    if path not in PARSERS and kind.startswith(_BINARY):
        return Media(None, model_in(target), names_model=False)
    return None
