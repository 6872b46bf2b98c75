"""Measure and tune a deployed model."""
