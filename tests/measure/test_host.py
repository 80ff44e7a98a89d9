import pytest

from s2search.measurement import host


@pytest.fixture
def system(tmp_path):
    """A /sys as Linux lays it out on a laptop."""
    for name, content in {
        "class/thermal/thermal_zone0/temp": "45000\n",
        "class/thermal/thermal_zone1/temp": "61500\n",
        "class/thermal/thermal_zone2/temp": "",  # asleep
        "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
        "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "3100000\n",
        "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "12\n",
        "devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        "class/power_supply/AC/online": "0\n",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return tmp_path


def test_linux_tells_heat_clock_throttling_and_power(system):
    assert host.conditions(system) == {"celsius": 61.5, "mhz": 3100.0, "throttled": 12.0, "on_battery": 1.0}
    (system / "class/power_supply/AC/online").write_text("1\n")
    assert host.conditions(system)["on_battery"] == 0.0


def test_a_virtual_machine_tells_nothing(tmp_path):
    assert host.conditions(tmp_path) == {}


def test_the_governor_is_named(system, monkeypatch):
    monkeypatch.setattr(host, "_SYSTEM", system)
    assert host.governor() == "governor performance"
