"""One HTTP request and one reply, as values."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What was asked. ``uri`` is path and query string, percent-encoded."""

    method: str
    uri: str
    content_type: str = ""
    accept: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What is answered; no content type where there is no body."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The header fields, names in lower case. Statuses without a body say nothing of one."""
        fields = {"x-content-type-options": "nosniff", **self.headers}
        if self.content_type:
            fields["content-type"] = self.content_type
        if self.status not in (204, 304):
            fields["content-length"] = str(len(self.body))
        return [(name.lower().encode(), text.encode("latin-1")) for name, text in fields.items()]
