"""Tests of ``rxws/books``."""
