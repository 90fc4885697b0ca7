"""Tests of ``rxws/connections``."""
