"""Work beside the event loop."""

import asyncio

from unified_api.jobs.threads import repeat_in_daemon

from ..fake_host import until


async def test_repeated_work_goes_on_after_a_fault_which_is_logged_once(caplog):
    faults = [OSError("away"), OSError("away"), ValueError("broken"), None, ValueError("broken")]
    left = list(faults)

    def work():
        if left and (fault := left.pop(0)):
            raise fault

    repeating = asyncio.ensure_future(repeat_in_daemon("look", work, seconds=0))
    await until(lambda: not left)
    await until(lambda: len(caplog.records) == 3)
    repeating.cancel()

    assert [repr(record.exc_info[1]) for record in caplog.records] == [
        "OSError('away')",
        "ValueError('broken')",
        "ValueError('broken')",
    ]
