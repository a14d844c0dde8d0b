"""Measurements: ratios with their spread, the machine and the commit. Nothing here is a test."""
