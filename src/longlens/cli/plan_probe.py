"""`longlens plan --probe`: measures this machine once and keeps the profile; the only part of plan that needs torch."""

from __future__ import annotations

from pathlib import Path

from longlens.bench.probe import measure_machine
from longlens.cli.messages import print_note
from longlens.kernels.choose import choose_kernels
from longlens.plan.profile import MachineProfile, profile_path, write_profile


def measure_and_keep(device: str, folder: Path) -> MachineProfile:
    """Measure, write the profile into the cache folder, and say where it is.

    Raises:
        UsageError: the device is not there, or the profile cannot be written.
    """
    chosen = str(choose_kernels(device).device)
    print_note("measuring this machine; it takes about half a minute, and nothing else should run")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    profile = measure_machine(chosen, folder=folder)
    path = profile_path(folder, chosen)
    write_profile(path, profile)
    stolen = f", {profile.stolen_share:.0%} of the processor was taken away" if profile.stolen_share else ""
    print_note(f"wrote {path}{stolen}")
    return profile
