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
