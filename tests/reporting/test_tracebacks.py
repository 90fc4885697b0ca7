"""Tracebacks for the log: without secrets, with the names of the program."""

from __future__ import annotations

from rxws.reporting.tracebacks import redacted_traceback


def test_traceback_without_secrets():
    """A traceback contains neither secrets nor control characters."""
    shown = redacted_traceback(ValueError("wss://me:hunter2@host/ws?token=SECRET \x1b[2J"))
    assert "wss://***@host/ws?token=***" in shown
    assert not any(part in shown for part in ("hunter2", "SECRET", "\x1b"))


def test_traceback_keeps_the_names_of_exception_classes():
    """The names of exception classes and modules are not masked; their texts are redacted."""
    kind = type("HttpError", (Exception,), {"__module__": "rxws.testing.http"})
    error = kind("404 for https://example.com/?key=hunter2")
    error.__cause__ = type("BadRequest", (Exception,), {"__module__": "crm.api.v2.models.xyz"})("no")
    error.__cause__.__cause__ = error
    lines = redacted_traceback(error).splitlines()
    assert lines[-1] == "rxws.testing.http.HttpError: 404 for https://example.com/?key=***"
    assert any(line.startswith("crm.api.v2.models.xyz.BadRequest: no") for line in lines)


def test_traceback_keeps_the_names_of_a_program():
    """Names of functions and attributes that look like tokens are not masked; string literals are."""

    class Session:
        def is_set_by_rpc4x5(self, key):
            return [self.stop2x.IsMSXMLUrlq8 for _ in key]

    try:
        Session().is_set_by_rpc4x5("q8Xk29dLmZ7aT1bVw5RcYp")
    except AttributeError as error:
        error.__cause__ = ExceptionGroup("some", [type("HTTPXError", (Exception,), {"__module__": "crm.v2.xyz.b2c"})()])
        shown = redacted_traceback(error)
    assert "    return [self.stop2x.IsMSXMLUrlq8 for _ in key]" in shown
    assert "    Session().is_set_by_rpc4x5(" in shown
    assert "crm.v2.xyz.b2c.HTTPXError" in shown
    assert "^^^^^^^^^^" in shown
    assert "q8Xk29" not in shown
