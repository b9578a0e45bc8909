"""The emulators that a test runs on: `moto`, unless one of these marks says otherwise."""

import pytest

#: What an emulator has to get right for us: a second opinion in every run.
on_both_emulators = pytest.mark.parametrize("emulator", ["moto", "ministack"], indirect=True)

#: What we have to get right: the second opinion is for the full run.
on_each_emulator = pytest.mark.parametrize(
    "emulator", ["moto", pytest.param("ministack", marks=pytest.mark.full)], indirect=True
)
