"""Tests of ``rxws/feed``."""
