"""Builders of inputs, and peers, that several tests share."""
