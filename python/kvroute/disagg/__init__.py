"""Prefill/decode disaggregation: when a request is served in two legs, and how engines are told.

Nothing here does HTTP: the frontend sends the legs. docs/disaggregation.md is the user's page.
"""
