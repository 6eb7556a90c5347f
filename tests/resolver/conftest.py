"""Every reply of the HTTP API in these tests is held against the API's own document."""

from typing import Any

import pytest

from resolver.api.pages import Page, Pages
from tests.resolver.api.openapi_check import check_reply

_reply = Pages.reply


async def _checked_reply(self: Pages, method: str, path: str, *rest: Any, **named: Any) -> Page:
    page = await _reply(self, method, path, *rest, **named)
    check_reply(method, path, page.status, page.content_type, page.body)
    return page


@pytest.fixture(autouse=True)
def replies_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no reply pass that the document does not promise."""
    monkeypatch.setattr(Pages, "reply", _checked_reply)
