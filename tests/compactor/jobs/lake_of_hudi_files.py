"""The Hudi table of crash tests whose files are put together."""

from tests.compactor.jobs.lake_of_hudi import FilesLake as Lake

__all__ = ["Lake"]
