"""Tests of ``rxws/display``."""
