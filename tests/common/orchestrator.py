"""An orchestrator as a process of its own: `python -c MAIN`."""

from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"
#: Makes `import unified_api` work, whatever the folder of the clone is called.
LOAD = f"import runpy; runpy.run_path({str(CONFTEST)!r})"
#: A job that was accepted and not sent is sent again after a second.
MAIN = (
    f"{LOAD}; from unified_api.sqs_bridge import orchestrator; orchestrator.main(unsent_seconds=1)"
)
