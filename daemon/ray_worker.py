"""Imported by each of Ray's workers before anything of ours (RAY_preload_python_modules), and only there.

Makes some libraries seem not installed: pydantic, pyarrow and pandas, which Ray loads for its serializers,
and rich, which structlog loads for coloured tracebacks, take 15 MB a process. An actor that needs one of
them says so first (`actors.supervise.bring_back`).
"""

from __future__ import annotations

import sys

sys.modules.update(dict.fromkeys(("pydantic", "pyarrow", "pandas", "rich")))  # type: ignore[arg-type]  # None is what import looks for
