"""Tests of ``rxws/connections/matching``."""
