"""Tests of ``rxws/operators``."""
