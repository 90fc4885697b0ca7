"""Tests of ``rxws/testing``."""
