"""Tests of ``rxws/jupyter``."""
