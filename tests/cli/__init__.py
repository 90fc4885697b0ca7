"""Tests of ``rxws/cli``."""
