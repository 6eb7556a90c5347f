"""The token of those who may pay: made once, private, and told from anything else."""

import os
import stat

import pytest

from resolver.api.token import Token, TokenError


def test_a_token_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "deep" / "api-token"
    token = Token.on_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text().strip()
    assert len(text) >= 40
    assert token.lets_in(f"Bearer {text}")
    assert Token.on_file(path).lets_in(f"bearer {text}")
    assert text not in repr(token)


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {}x", "é {}"])
def test_nothing_else_lets_anybody_in(tmp_path, shown):
    token = Token.on_file(tmp_path / "token")
    assert not token.lets_in(shown.format((tmp_path / "token").read_text().strip()))


@pytest.mark.parametrize("content", [b"", b"short", b"two words of enough length", b"\xff" * 30])
def test_a_file_without_a_token_is_refused_and_its_content_is_not_shown(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(TokenError, match="holds no token") as refused:
        Token.on_file(path)
    assert "words" not in str(refused.value)


def test_a_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "token"
    Token.on_file(path)
    path.chmod(0o640)
    with pytest.raises(TokenError, match="chmod 600"):
        Token.on_file(path)


def test_a_link_is_not_followed(tmp_path):
    Token.on_file(tmp_path / "real")
    os.symlink(tmp_path / "real", tmp_path / "token")
    with pytest.raises(TokenError, match="cannot be read"):
        Token.on_file(tmp_path / "token")
