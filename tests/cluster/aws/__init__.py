"""AWS on a laptop: its interfaces by moto, its machines from the lab."""

from tests.cluster.aws.cloud import ACCOUNT, Cloud

__all__ = ["ACCOUNT", "Cloud"]
