"""Tests of ``rxws/reporting``."""
