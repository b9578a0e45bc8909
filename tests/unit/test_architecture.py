"""The rules of the house, read from the source itself."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("workflows", "jobs", "routes", "sqs_bridge")
ROOT_FILE = ROOT / "__init__.py"
FILES = [ROOT_FILE, *(file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py")))]
#: Only sqs_bridge/orchestrator.py serves the routes.
BELOW_ROUTES = ("listener", "dispatcher", "task_table")

COMFYUI = {"server", "execution", "folder_paths", "nodes", "torch", "app", "protocol"}
CROSSINGS = {
    "to_thread",
    "run_in_executor",
    "run_coroutine_threadsafe",
    "call_soon_threadsafe",
    "Thread",
    "ThreadPoolExecutor",
}
IMPURE = {"asyncio", "aiohttp", "time", "datetime", "random", "secrets", "socket", "os", "uuid"}


def name_of(file):
    return file.relative_to(ROOT).as_posix()


@cache
def tree_of(file):
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports_of(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def foreign(tree):
    """The top-level names of modules that are not ours."""
    for node in imports_of(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif node.level == 0:
            yield node.module.split(".")[0]


def ours(file, tree):
    """What is imported of ours, as paths below the root: ('jobs', 'store')."""
    here = file.relative_to(ROOT).parts[:-1]
    for node in imports_of(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            module = tuple(node.module.split(".")) if node.module else ()
            yield from (base + module + (alias.name,) for alias in node.names)


def words_of(tree):
    """Every name and attribute the code uses; what stands in texts does not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.split(".")[-1]


def late_imports(tree):
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for outer in ast.walk(tree):
        if isinstance(outer, functions):
            yield from (node.lineno for node in imports_of(outer))


def offenders(rule, *, allowed=()):
    """File -> what the rule finds there, for files that are not allowed to break it."""
    found = {name_of(file): set(rule(file, tree_of(file))) for file in FILES}
    return {name: what for name, what in found.items() if what and not name.startswith(allowed)}


def upward(file, tree):
    room = file.relative_to(ROOT).parts[0]
    floors = (*ROOMS, "__init__.py")
    above = floors[floors.index(room) + 1 :]
    return {path for path in ours(file, tree) if not path or path[0] in above}


def own_by_plain_name(file, tree):
    # A plain `import job` would find ours only by luck; some of ours are called like others'.
    siblings = {each.stem for each in file.parent.glob("*.py")} - sys.stdlib_module_names
    return {"unified_api", *ROOMS, *siblings} & set(foreign(tree))


def test_imports_point_down():
    assert offenders(upward) == {}


def test_our_modules_are_imported_relatively():
    assert offenders(own_by_plain_name) == {}


def test_the_queue_side_knows_no_routes():
    def routes(file, tree):
        return {path for path in ours(file, tree) if path[0] == "routes"}

    seen = offenders(routes, allowed=("__init__.py", "routes/"))

    assert not [name for name in seen if Path(name).stem in BELOW_ROUTES]


def test_only_the_seam_names_comfyui():
    def comfyui(_, tree):
        return {name for name in foreign(tree) if name in COMFYUI or name.startswith("comfy")}

    assert offenders(comfyui, allowed="jobs/comfyui/seam.py") == {}
    assert comfyui(None, tree_of(ROOT / "jobs/comfyui/seam.py"))


def test_threads_are_crossed_in_one_file():
    def crossings(_, tree):
        return CROSSINGS & set(words_of(tree))

    assert offenders(crossings, allowed="jobs/threads.py") == {}
    assert crossings(None, tree_of(ROOT / "jobs" / "threads.py"))


def test_only_the_settings_read_the_environment():
    def environment(_, tree):
        return {"environ", "environb", "getenv"} & set(words_of(tree))

    assert offenders(environment, allowed="jobs/settings.py") == {}
    assert environment(None, tree_of(ROOT / "jobs" / "settings.py"))


def test_boto3_is_imported_in_few_files():
    def aws(_, tree):
        return {"boto3", "aiobotocore"} & set(foreign(tree))

    assert offenders(aws, allowed=("jobs/boto.py", "sqs_bridge/dynamodb.py")) == {}


def test_imports_stand_at_the_top():
    # The root file must do nothing when it is imported, so it alone imports while it works.
    assert offenders(lambda _, tree: late_imports(tree), allowed="__init__.py") == {}


def test_nothing_is_printed():
    def printing(_, tree):
        return {"print", "pprint"} & set(words_of(tree))

    assert offenders(printing) == {}


def test_no_import_path_is_bent():
    def bent(_, tree):
        return {node.lineno for node in ast.walk(tree) if ast.unparse(node) == "sys.path"}

    assert offenders(bent) == {}


def test_the_workflows_are_pure():
    def impure(_, tree):
        return IMPURE & set(foreign(tree))

    assert offenders(impure, allowed=("__init__.py", "jobs/", "routes/", "sqs_bridge/")) == {}


def modules_after(statement):
    """What a fresh process has loaded after the package and one statement more."""
    load = f"import runpy; runpy.run_path({str(ROOT / 'tests' / 'conftest.py')!r})"
    script = f"{load}\n{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_nothing_of_ours():
    loaded = modules_after("")

    assert {name for name in loaded if name.startswith("unified_api")} == {"unified_api"}
    assert "aiohttp" not in loaded


def test_the_engine_and_the_routes_load_without_aws_torch_and_comfyui():
    loaded = modules_after("import unified_api.jobs.engine, unified_api.routes")

    assert loaded.isdisjoint({"boto3", "botocore"} | COMFYUI)
    assert not any(name.split(".")[0].startswith("comfy") for name in loaded)
    assert "unified_api.jobs.comfyui.seam" not in loaded
