"""What a caller asks for, held against what was asked for before."""

import hashlib
import json

from unified_api.jobs.owners import owned_name
from unified_api.jobs.request import JobRequest


def test_an_upload_that_an_earlier_version_took_in_is_the_same_when_it_is_sent_again():
    sha256 = hashlib.sha256(b"picture").hexdigest()
    for place in ("upload:", "s3://bucket/unified-api/inputs/"):
        before = {"image_url": f"{place}{sha256}.png", "width": 8}
        now = {"image_url": f"{place}{owned_name(sha256, 'ann')}.png", "width": 8}

        # As earlier versions made it.
        text = json.dumps(["edit", before], sort_keys=True)
        known = hashlib.sha256(text.encode()).hexdigest()

        assert JobRequest.received("edit", now, "ann", "key").fingerprint == known


def test_another_picture_is_another_request():
    names = [owned_name(hashlib.sha256(each).hexdigest(), "ann") for each in (b"a", b"b")]
    bodies = [{"image_url": f"upload:{name}.png"} for name in names]

    first, second = (JobRequest.received("edit", body, "ann", "key") for body in bodies)

    assert first.fingerprint != second.fingerprint
