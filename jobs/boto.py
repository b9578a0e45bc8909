"""Boto: sessions of boto3 that read the descriptions of AWS's services once for all of them."""

from __future__ import annotations

import botocore.session
from boto3.session import Session
from botocore.loaders import create_loader

#: Parsed, those that all services need take 7 MB.
_descriptions = create_loader()


def new_session(region: str) -> Session:
    """A session with credentials of its own: it never looks for newer ones."""
    core = botocore.session.Session()
    core.register_component("data_loader", _descriptions)
    return Session(botocore_session=core, region_name=region)
