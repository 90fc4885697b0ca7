"""Tests of ``rxws/demo``."""
