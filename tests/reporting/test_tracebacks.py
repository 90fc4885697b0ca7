"""Tracebacks as the log shows them: without secrets, with the names of a program."""

from __future__ import annotations

from rxws.reporting.tracebacks import redacted_traceback


def test_traceback_without_secrets():
    """A traceback shows no secret, and nothing that a terminal would obey."""
    shown = redacted_traceback(ValueError("wss://me:hunter2@host/ws?token=SECRET \x1b[2J"))
    assert "wss://***@host/ws?token=***" in shown
    assert not any(part in shown for part in ("hunter2", "SECRET", "\x1b"))


def test_traceback_tells_the_classes_of_exceptions_as_they_are():
    """However they are called, in whatever module: what they say is redacted, and what they are is not."""
    kind = type("HttpError", (Exception,), {"__module__": "rxws.testing.http"})
    error = kind("404 for https://example.com/?key=hunter2")
    error.__cause__ = type("BadRequest", (Exception,), {"__module__": "crm.api.v2.models.xyz"})("no")
    error.__cause__.__cause__ = error
    lines = redacted_traceback(error).splitlines()
    assert lines[-1] == "rxws.testing.http.HttpError: 404 for https://example.com/?key=***"
    assert any(line.startswith("crm.api.v2.models.xyz.BadRequest: no") for line in lines)


def test_traceback_tells_what_a_program_calls_things():
    """Functions and attributes are called as they are, like tokens or not; what stands in quotes may be a token."""

    class Session:
        def is_set_by_rpc4x5(self, key):
            return [self.stop2x.IsMSXMLUrlq8 for _ in key]

    try:
        Session().is_set_by_rpc4x5("q8Xk29dLmZ7aT1bVw5RcYp")
    except AttributeError as error:
        error.__cause__ = ExceptionGroup("some", [type("HTTPXError", (Exception,), {"__module__": "crm.v2.xyz.b2c"})()])
        told = redacted_traceback(error)
    assert "    return [self.stop2x.IsMSXMLUrlq8 for _ in key]" in told
    assert "    Session().is_set_by_rpc4x5(" in told
    assert "crm.v2.xyz.b2c.HTTPXError" in told
    assert "^^^^^^^^^^" in told
    assert "q8Xk29" not in told
