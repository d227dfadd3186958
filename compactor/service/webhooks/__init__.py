"""Receivers of webhooks: each verifies the requests of one kind of sender and finds its table."""
