"""Settings from the environment: what is wrong is named, and its default is used."""

from base64 import b64encode
from pathlib import Path

import pytest
from unified_api.jobs.egress.guard import Place
from unified_api.jobs.keys import Key
from unified_api.jobs.settings import Settings
from unified_api.jobs.signature import Secret

HASH = "0123456789abcdef" * 4
SECRET = f"whsec_{b64encode(b'k' * 24).decode()}"
KEY = Key(name="ci", scopes=frozenset(["submit", "read"]), sha256=HASH)
#: Field -> its default, a good value as text and as read, and values that cannot be meant.
TABLE = {
    "workflows_dir": (None, "some/folder", Path("some/folder"), []),
    "models": ({}, "a.vae=b.pt", {"a": {"vae": "b.pt"}}, ["a.vae", "vae=b.pt", "a.=b", "a.vae="]),
    "public_url": (None, "https://a.example", "https://a.example", ["a.example", "ftp://a", "//"]),
    "log": ("text", "journal", "journal", ["jsonl", "yes"]),
    "allow_anonymous": (False, "1", True, ["perhaps", "2"]),
    "keys": ((), f"ci:submit+read:{HASH}", (KEY,), [HASH, f"ci:all:{HASH}", "ci:read:1234"]),
    "protect": ("plugin", "all", "all", ["none", "yes"]),
    "port": (None, "8000", 8000, ["0", "65536", "http"]),
    "host": ("127.0.0.1", "0.0.0.0", "0.0.0.0", []),
    "cors_origins": ((), "https://A.example", ("https://a.example",), ["a.example", "https://a/b"]),
    "rate_per_minute": (0, "60", 60, ["-1", "some"]),
    "max_jobs_per_key": (0, "5", 5, ["-1", "some"]),
    "max_streams": (1000, "1", 1, ["0", "-1"]),
    "body_timeout": (60.0, "0.5", 0.5, ["0", "nan", "inf"]),
    "open_files": (65_536, "1024", 1024, ["63", "-1", "many"]),
    "max_connections": (None, "10", 10, ["0", "-1", "many"]),
    "head_timeout": (20.0, "0.5", 0.5, ["0", "nan", "inf"]),
    "keep_alive_timeout": (75.0, "350", 350.0, ["0", "nan", "inf"]),
    "send_timeout": (60.0, "0.5", 0.5, ["0", "nan", "inf"]),
    "region": ("us-east-1", "eu-west-1", "eu-west-1", ["Europe!", "eu west"]),
    "bucket": (None, "my.bucket-1", "my.bucket-1", ["My_Bucket", "s3://bucket", "a/b"]),
    "prefix": ("images/comfyui-results", "a/b", "a/b", []),
    "kms_key_id": (None, "alias/a", "alias/a", []),
    "extra_read_buckets": ((), "a, b,", ("a", "b"), []),
    "cdn_domain": (None, "cdn.example", "cdn.example", []),
    "url_mode": (None, "presigned", "presigned", ["signed", "cloud"]),
    "presign_seconds": (604_800.0, "60", 60.0, ["0", "604801", "nan"]),
    "queue_url": (None, "https://sqs.example/1/tasks", "https://sqs.example/1/tasks", ["tasks"]),
    "high_queue_url": (None, "https://sqs.example/1/h", "https://sqs.example/1/h", ["high"]),
    "task_table": ("task_store", "tasks-2.x", "tasks-2.x", ["a", "a/b", "a b c"]),
    "list_queries": (20, "50", 50, ["4", "1001", "some"]),
    "prefetch": (1, "0", 0, ["-1", "11", "many"]),
    "prefetch_seconds": (1.0, "0", 0.0, ["-1", "nan", "inf", "soon"]),
    "visibility_seconds": (120.0, "3", 3.0, ["1", "43201", "nan"]),
    "drain_seconds": (100.0, "0", 0.0, ["-1", "nan", "inf"]),
    "spot_notice": (False, "1", True, ["perhaps"]),
    "imds_url": ("http://169.254.169.254", "http://127.0.0.1:8", "http://127.0.0.1:8", ["here"]),
    "task_days": (14.0, "0.5", 0.5, ["0", "14.1", "nan", "inf"]),
    "gpu_instance_id": (None, "i-0123456789abcdef0", "i-0123456789abcdef0", ["gpu", "i-XYZ"]),
    "webhook_url": (
        None,
        "https://a.example/b?c",
        "https://a.example/b?c",
        ["a.example", "ftp://a"],
    ),
    "webhook_timeout": (15.0, "5", 5.0, ["0", "-1", "nan", "inf"]),
    "webhook_slots": (64, "8", 8, ["0", "1001", "some"]),
    "webhook_slots_per_key": (16, "8", 8, ["0", "some"]),
    "webhook_slots_per_site": (8, "2", 2, ["0", "some"]),
    "webhook_slow_slots": (16, "4", 4, ["0", "some"]),
    "webhook_reserved_slots": (16, "0", 0, ["-1", "some"]),
    "webhook_slow_seconds": (3.0, "0.5", 0.5, ["0", "-1", "nan", "inf"]),
    "webhook_secrets": ((), SECRET, (Secret(b"k" * 24),), ["whsec_", SECRET[6:], SECRET + "!"]),
    "retention_days": (7.0, "0.5", 0.5, ["0", "-1", "nan", "inf"]),
    "keep_metadata": (False, "1", True, ["perhaps"]),
    "spool_bytes": (10 * 2**30, "0", 0, ["-1", "1 GB"]),
    "png_level": (4, "1", 1, ["-1", "10", "best"]),
    "picture_bytes": (2**30, "0", 0, ["-1", "1 GB"]),
    "thumbnail_bytes": (256 * 2**20, "0", 0, ["-1", "1 GB"]),
    "allow_hosts": ((), "a.example:81", (Place("a.example", 81),), ["a.example", "http://a:81"]),
    "deny_hosts": ((), "b.example, 10.0.0.0/8", ("b.example", "10.0.0.0/8"), ["http://b.example"]),
    "input_hours": (24.0, "0.5", 0.5, ["0", "inf"]),
    "input_bytes": (10 * 2**30, "0", 0, ["-1"]),
    "max_pending": (20_000, "1", 1, ["0", "-1", "many", "1.5"]),
    "max_attempts": (3, "100", 100, ["0", "101"]),
    "job_timeout": (1800.0, "0.5", 0.5, ["0", "-1", "nan", "inf", "soon"]),
    "interrupt_seconds": (30.0, "0.5", 0.5, ["0", "-1", "nan", "inf", "soon"]),
    "warm_up_seconds": (600.0, "0", 0.0, ["-1", "nan", "inf", "long"]),
    "exit_on_hang": (False, "true", True, ["perhaps"]),
    "reset_store": (False, "1", True, ["perhaps"]),
    "min_free_bytes": (256 * 2**20, "0", 0, ["-1", "1 GB"]),
    "fetch_ahead": (64, "256", 256, ["0", "257"]),
    "max_image_bytes": (50 * 2**20, "1", 1, ["0", "50MB"]),
    "max_pixels": (40_000_000, "1", 1, ["0", "4K"]),
    "fetch_timeout": (60.0, "0.1", 0.1, ["0", "-1", "nan", "inf", "soon"]),
}
#: A slip of the pen must not open a door: these become strict when they are wrong.
STRICT = {"keys", "protect", "deny_hosts"}
WRONG = [(field, text) for field, (*_, wrong) in TABLE.items() for text in wrong]


def variable(field):
    return Settings.model_fields[field].alias


@pytest.mark.parametrize("field", TABLE)
def test_what_is_not_set_has_its_default(field):
    settings = Settings.from_env({})

    assert getattr(settings, field) == TABLE[field][0]
    assert settings.problems == ()


@pytest.mark.parametrize("field", TABLE)
def test_a_good_value_is_used(field):
    _, text, meant, _ = TABLE[field]

    settings = Settings.from_env({variable(field): text})

    assert (getattr(settings, field), settings.problems) == (meant, ())


@pytest.mark.parametrize(("field", "text"), WRONG)
def test_a_wrong_value_is_named_and_its_default_used(field, text):
    settings = Settings.from_env({variable(field): text})

    (problem,) = settings.problems
    assert problem.startswith(variable(field))
    assert field in STRICT or getattr(settings, field) == TABLE[field][0]


def test_a_wrong_list_of_keys_lets_nobody_in():
    settings = Settings.from_env({"UNIFIED_API_KEYS": f"ci:submit:{HASH},slip"})

    assert settings.keys
    assert HASH not in {key.sha256 for key in settings.keys}
    assert HASH not in "".join(settings.problems)


def test_a_wrong_secret_is_not_quoted():
    settings = Settings.from_env({"UNIFIED_API_WEBHOOK_SECRET": f"{SECRET}, slip"})

    assert settings.webhook_secrets == ()
    assert SECRET not in "".join(settings.problems)
    assert "kkkk" not in repr(Settings.from_env({"UNIFIED_API_WEBHOOK_SECRET": SECRET}))


def test_a_wrong_protection_protects_all():
    assert Settings.from_env({"UNIFIED_API_PROTECT": "plug in"}).protect == "all"


def test_one_wrong_value_spoils_no_other():
    settings = Settings.from_env(
        {
            "UNIFIED_API_MAX_PENDING": "7",
            "UNIFIED_API_MAX_PIXELS": "huge",
            "UNIFIED_API_MODELS": "nonsense",
        }
    )

    assert settings.max_pending == 7
    assert {problem.split()[0] for problem in settings.problems} == {
        "UNIFIED_API_MAX_PIXELS",
        "UNIFIED_API_MODELS",
    }


def test_every_setting_stands_in_the_table():
    with_variable = {name for name, field in Settings.model_fields.items() if field.alias}

    assert with_variable == set(TABLE)


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_empty_means_unset(blank):
    settings = Settings.from_env({variable(field): blank for field in TABLE})

    assert settings == Settings.from_env({})


def test_models_are_named_by_workflow_and_slot():
    text = " camera-angle.vae = a b.safetensors ,, camera-angle.lora=x/y=z.pt,edit.vae=c.pt, "

    settings = Settings.from_env({"UNIFIED_API_MODELS": text})

    assert settings.models == {
        "camera-angle": {"vae": "a b.safetensors", "lora": "x/y=z.pt"},
        "edit": {"vae": "c.pt"},
    }


def test_what_is_not_ours_is_ignored():
    environ = {"MAX_PENDING": "x", "UNIFIED_API_COLOUR": "red", "problems": "x", "PATH": "y"}

    assert Settings.from_env(environ) == Settings.from_env({})
