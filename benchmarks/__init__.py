"""How fast, and at what cost. Each module tells in its first lines what it measures and how."""

import tests.conftest  # noqa: F401 - by which the project's own packages are found
