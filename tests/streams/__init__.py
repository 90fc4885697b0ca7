"""Tests of ``rxws/streams``."""
