"""Tests of ``rxws/messages``."""
