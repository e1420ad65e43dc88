"""Faces of other packages over kvroute's index, for code that was written for them."""

from __future__ import annotations
