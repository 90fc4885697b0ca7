"""Tests of ``rxws/sending``."""
