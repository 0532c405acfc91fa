# SPDX-License-Identifier: Apache-2.0
"""The result files of bench/results that a plot is drawn from."""
import json


def files(folder, device):
    """Those of devices whose name holds `device`, oldest first."""
    all_files = (json.loads(file.read_text()) for file in sorted(folder.glob("*.json")))
    return sorted((r for r in all_files if device in r["device"]), key=lambda r: r["date"])


def newest(folder, device):
    """The newest value of each row, by config and workload."""
    return {(row["config"], row["workload"]): row["value"] for result in files(folder, device) for row in result["rows"]}


class Missing(Exception):
    """What a plot is drawn from is not among the results."""
