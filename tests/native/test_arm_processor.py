"""What is told of an aarch64 processor: its features, as Linux tells them, and its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mace_core.errors import UsageError
from mace_core.host.arm import arm_designs, arm_features, describe_designs, features_of, known_arm_features
from mace_core.host.processor_name import processor_name
from mace_core.native import target as targets
from mace_core.native.target import host_target

ATOMICS, FPHP, ASIMDHP, ASIMDDP, SVE = 1 << 8, 1 << 9, 1 << 10, 1 << 20, 1 << 22
SVE2, I8MM, BF16 = 1 << 1, 1 << 13, 1 << 14


def machine(root: Path, designs: list[tuple[int, int]], capacities: list[int] | None = None) -> Path:
    """A folder with ``/proc/cpuinfo`` and ``/sys`` of processors (implementer, part)."""
    (root / "proc").mkdir(parents=True)
    text = "".join(
        f"processor\t: {i}\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x{maker:02x}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0x{part:03x}\nCPU revision\t: 1\n\n"
        for i, (maker, part) in enumerate(designs)
    )
    (root / "proc/cpuinfo").write_text(text)
    for i, capacity in enumerate(capacities or []):
        path = root / f"sys/devices/system/cpu/cpu{i}/cpu_capacity"
        path.parent.mkdir(parents=True)
        path.write_text(f"{capacity}\n")
    return root


class TestNames:
    @pytest.mark.parametrize(
        ("designs", "name"),
        [
            ([(0x41, 0xD0C)] * 4, "Arm Neoverse-N1"),
            ([(0x41, 0xD05)] * 4 + [(0x41, 0xD0B)] * 4, "Arm Cortex-A76 + Cortex-A55"),
            ([(0x51, 0x803)] * 4 + [(0x51, 0x802)] * 4, "Qualcomm Kryo 3xx Gold + Kryo 3xx Silver"),
            ([(0x41, 0xD05)] * 4 + [(0x41, 0xD41)] * 3 + [(0x41, 0xD44)], "Arm Cortex-X1 + Cortex-A78 + Cortex-A55"),
            ([(0x41, 0xD03), (0x4E, 0x003)], "NVIDIA Denver 2 + Arm Cortex-A53"),
            ([(0x61, 0x022), (0x61, 0x023)], "Apple Firestorm-M1 + Icestorm-M1"),
            ([(0x41, 0xFED)], "Arm part 0xfed"),
            ([(0x99, 0x001)], "maker 0x99 part 0x001"),
        ],
    )
    def test_designs_are_named_the_fastest_first(
        self, tmp_path: Path, designs: list[tuple[int, int]], name: str
    ) -> None:
        assert processor_name(machine(tmp_path, designs), "aarch64") == name

    def test_capacities_decide_which_is_faster(self, tmp_path: Path) -> None:
        root = machine(tmp_path, [(0x41, 0xD0B), (0x41, 0xD05)], [1024, 400])
        assert describe_designs(arm_designs(root)) == "Arm Cortex-A76 + Cortex-A55"
        assert [design.processors for design in arm_designs(root)] == [1, 1]

    def test_an_emulators_text_of_another_machine_is_not_believed(self, tmp_path: Path) -> None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmodel name : Intel(R) Xeon(R)\nflags : fpu\n")
        assert processor_name(tmp_path, "aarch64") in ("aarch64", "x86_64")
        assert processor_name(tmp_path, "x86_64") == "Intel(R) Xeon(R)"

    def test_damaged_lines_are_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text("CPU part : 0xd0c\nCPU implementer : zero\n:\nCPU part :\n")
        assert arm_designs(tmp_path) == ()
        assert arm_designs(tmp_path / "nowhere") == ()


class TestFeatures:
    @pytest.mark.parametrize(
        ("first", "second", "names"),
        [
            (3, 0, set()),  # Cortex-A53
            (ATOMICS | FPHP | ASIMDHP | ASIMDDP, 0, {"lse", "fullfp16", "dotprod"}),
            (FPHP, 0, set()),  # scalars alone
            (ASIMDDP | SVE, SVE2 | I8MM | BF16, {"dotprod", "sve", "sve2", "i8mm", "bf16"}),
        ],
    )
    def test_bits_of_the_auxiliary_vector(self, first: int, second: int, names: set[str]) -> None:
        assert features_of(first, second) == names

    def test_other_machines_tell_nothing(self) -> None:
        found = arm_features()
        assert (found is None) == (host_target().architecture != "aarch64")
        assert (found or frozenset()) <= known_arm_features()


@pytest.fixture
def phone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets as on a phone whose kernel keeps SVE from programs."""
    attributes = ",".join(("+neon", "-sve", "+dotprod", "+fullfp16", "+i8mm", "+lse", "+rdm"))
    features = frozenset({"neon", "fp-armv8", "dotprod", "fullfp16", "i8mm", "lse", "rdm"})
    host = targets._Host("aarch64-unknown-linux-gnu", "cortex-x2", features, attributes)
    monkeypatch.setattr(targets, "_host", lambda: host)
    targets._host_target.cache_clear()
    yield
    targets._host_target.cache_clear()


class TestMasks:
    @pytest.mark.parametrize(
        ("mask", "has", "has_not"),
        [
            ("baseline", {"neon"}, {"dotprod", "fullfp16"}),
            ("dotprod", {"neon", "dotprod"}, {"i8mm", "fullfp16"}),
            ("i8mm", {"dotprod", "i8mm"}, {"fullfp16"}),
            ("fp16", {"fullfp16"}, {"dotprod"}),
            ("armv8.2", {"dotprod", "fullfp16", "lse"}, {"i8mm"}),
            ("native", {"i8mm", "fullfp16"}, {"bf16", "sve"}),
        ],
    )
    def test_masks_narrow(self, phone: None, mask: str, has: set[str], has_not: set[str]) -> None:
        target = host_target(mask)
        assert target.vector_bits == 128
        assert has <= target.features
        assert not has_not & target.features
        assert all(f"+{name}" in target.attributes.split(",") for name in has - {"neon"})

    def test_what_the_processor_lacks_is_named(self, phone: None) -> None:
        lacks = r"'armv8\.6' needs bf16, fp16fml, rcpc, which this processor does not have"
        with pytest.raises(UsageError, match=lacks):
            host_target("armv8.6")

    def test_no_mask_of_another_architecture(self, phone: None) -> None:
        with pytest.raises(UsageError, match=r"'avx2' is not known.*armv8\.2.*dotprod"):
            host_target("avx2")
