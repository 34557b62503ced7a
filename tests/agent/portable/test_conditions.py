"""Runs under every Python from 3.8. Boards are trees of files, as their kernels lay them out."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009, PT027, PTH103, PTH108, PTH118, PTH120, PTH123, UP031

import os
import tempfile
import unittest

from hwloop_agent import conditions, placement, throttle
from hwloop_agent.facts import read_facts
from hwloop_agent.sensors.board import Sensors
from hwloop_agent.sysfiles import SysFiles, parse_cpu_list

POLICY = "sys/devices/system/cpu/cpufreq/policy0/"
MEMINFO = "MemTotal: 4000000 kB\nMemAvailable: 3000000 kB\nSwapTotal: 102396 kB\nSwapFree: 102396 kB"

PI4 = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/cpuinfo": "processor\t: 0\nHardware\t: BCM2835",
    "proc/meminfo": MEMINFO,
    "proc/loadavg": "0.15 0.10 0.05 1/150 999",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "0",
    POLICY + "related_cpus": "0 1 2 3",
    POLICY + "scaling_governor": "ondemand",
    POLICY + "scaling_cur_freq": "1500000",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "48199",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
    "sys/class/thermal/cooling_device0/cur_state": "0",
    "sys/class/hwmon/hwmon1/name": "rpi_volt",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0",
}
JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/meminfo": MEMINFO,
    POLICY + "related_cpus": "0 1 2 3",
    POLICY + "scaling_governor": "schedutil",
    POLICY + "scaling_cur_freq": "1510400",
    "sys/devices/system/cpu/cpufreq/policy4/related_cpus": "4 5",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_governor": "performance",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "729600",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "51000",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
    "sys/class/thermal/thermal_zone1/temp": "53000",
    "sys/class/hwmon/hwmon3/name": "soctherm_oc",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "4",
    "sys/class/hwmon/hwmon3/oc2_event_cnt": "0",
}
PC = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse2 avx2",
    "proc/meminfo": MEMINFO,
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "12",
    "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count": "3",
}
VM = dict(PC, **{"proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor avx2"})


class Tree(unittest.TestCase):
    def plant(self, files):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        for name, text in files.items():
            self.write(name, text)
        return SysFiles(os.path.join(self.root, "proc"), os.path.join(self.root, "sys"))

    def write(self, name, text):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)


class ThrottleTest(Tree):
    def verdict(self, files, change=None):
        before = throttle.read_evidence(files)
        for name, text in (change or {}).items():
            self.write(name, text)
        return throttle.verdict(before, throttle.read_evidence(files))

    def test_a_quiet_board_with_a_certifying_source_is_none(self):
        for board in (PI4, JETSON, PC):
            self.assertEqual(self.verdict(self.plant(board)), "none")

    def test_a_raspberry_pi_that_is_held_back_is_seen(self):
        word = "sys/devices/platform/soc/soc:firmware/get_throttled"
        self.assertEqual(self.verdict(self.plant(PI4), {word: "0x50005"}), "seen")
        self.assertEqual(self.verdict(self.plant(PI4), {word: "0x40000"}), "seen")
        self.assertEqual(self.verdict(self.plant(dict(PI4, **{word: "0x4"}))), "seen")

    def test_sticky_bits_from_before_prove_nothing(self):
        word = "sys/devices/platform/soc/soc:firmware/get_throttled"
        self.assertEqual(self.verdict(self.plant(dict(PI4, **{word: "0x50000"}))), "unknown")

    def test_an_under_voltage_alarm_or_an_active_cooler_is_seen(self):
        self.assertEqual(self.verdict(self.plant(PI4), {"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1"}), "seen")
        self.assertEqual(self.verdict(self.plant(PI4), {"sys/class/thermal/cooling_device0/cur_state": "2"}), "seen")

    def test_counters_that_grow_are_seen(self):
        self.assertEqual(self.verdict(self.plant(JETSON), {"sys/class/hwmon/hwmon3/oc2_event_cnt": "1"}), "seen")
        count = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
        self.assertEqual(self.verdict(self.plant(PC), {count: "13"}), "seen")
        self.assertEqual(self.verdict(self.plant(VM), {count: "13"}), "seen")

    def test_a_virtual_machine_never_certifies(self):
        self.assertEqual(self.verdict(self.plant(VM)), "unknown")

    def test_no_sensor_is_unknown(self):
        self.assertEqual(self.verdict(self.plant({})), "unknown")

    def test_a_sensor_that_cannot_be_read_is_unknown(self):
        files = self.plant(PC)
        before = throttle.read_evidence(files)
        os.unlink(os.path.join(self.root, "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"))
        self.assertEqual(throttle.verdict(before, throttle.read_evidence(files)), "unknown")
        word = "sys/devices/platform/soc/soc:firmware/get_throttled"
        self.assertEqual(self.verdict(self.plant(dict(PI4, **{word: "not a number"}))), "unknown")


class ReadingTest(Tree):
    def test_a_raspberry_pi(self):
        files = self.plant(PI4)
        seen = conditions.read_conditions(Sensors(files), [3])
        self.assertEqual((seen["governor"], seen["clock_mhz"], seen["temperature_c"]), ("ondemand", 1500.0, 48.199))
        self.assertEqual((seen["load1"], seen["swap_used_bytes"]), (0.15, 0))
        self.assertEqual(read_facts(Sensors(files), [0])["model"], "Raspberry Pi 4 Model B Rev 1.4")

    def test_a_jetson_answers_for_the_cluster_that_is_used(self):
        files = self.plant(JETSON)
        self.assertEqual(conditions.read_conditions(Sensors(files), [5])["governor"], "performance")
        self.assertEqual(conditions.read_conditions(Sensors(files), [0, 5])["governor"], "performance,schedutil")
        self.assertEqual(conditions.read_conditions(Sensors(files), [0, 5])["clock_mhz"], 729.6)
        self.assertEqual(conditions.read_conditions(Sensors(files), [0])["temperature_c"], 51.0)

    def test_what_cannot_be_read_is_none_and_never_a_number(self):
        seen = conditions.read_conditions(Sensors(self.plant({})), [0])
        self.assertEqual(set(seen.values()), {None})

    def test_nonsense_from_sensors_is_none(self):
        files = self.plant(
            {
                "sys/class/thermal/thermal_zone0/temp": "-273000",
                "sys/class/thermal/thermal_zone1/temp": "hot",
                "proc/loadavg": "much",
                "proc/meminfo": "SwapTotal: lots",
                "proc/pressure/cpu": "some avg10=x",
            }
        )
        self.assertEqual(set(conditions.read_conditions(Sensors(files), [0]).values()), {None})

    def test_waiting_is_summed_over_threads_and_unknown_where_it_is_not_counted(self):
        files = self.plant({"proc/self/task/1/schedstat": "500 30 2", "proc/self/task/2/schedstat": "900 12 2"})
        self.assertEqual(conditions.run_queue_wait_ns(files), 42)
        self.assertIsNone(conditions.run_queue_wait_ns(self.plant({"proc/self/task/1/schedstat": "0 0 0"})))
        self.assertIsNone(conditions.run_queue_wait_ns(self.plant({})))

    def test_steal_is_read_for_the_used_cpus_only(self):
        files = self.plant(
            {"proc/stat": "cpu  1 1 1 1 1 1 1 90 0 0\ncpu0 1 1 1 1 1 1 1 70 0 0\ncpu1 1 1 1 1 1 1 1 20 0 0"}
        )
        self.assertEqual(conditions.steal_ticks(files, [1]), 20)
        self.assertIsNone(conditions.steal_ticks(files, [9]))

    def test_cpu_lists(self):
        self.assertEqual(parse_cpu_list("0-2,5"), [0, 1, 2, 5])
        self.assertEqual(parse_cpu_list("0 1"), [0, 1])
        self.assertEqual(parse_cpu_list("x-1,,-"), [])


class RatioTest(unittest.TestCase):
    def test_shares_of_the_wall_time(self):
        before, after = conditions.Usage(0, 0, 0, 0), conditions.Usage(1_000_000_000, 900_000_000, 50_000_000, 6)
        found = conditions.used_ratios(before, after, [0])
        known = {name: value for name, value in found.items() if value is not None}
        self.assertEqual(known, {"wait_ratio": 0.05, "steal_ratio": 0.06, "cpu_wall_ratio": 0.9})

    def test_waiting_for_memory_and_swapping_are_told_where_the_kernel_counts_them(self):
        before = conditions.Usage(0, 0, None, None, 3, 1000, 20)
        after = conditions.Usage(1_000_000_000, 1, None, None, 5, 51_000, 2068)
        found = conditions.used_ratios(before, after, [0])
        self.assertEqual((found["memory_stall_ratio"], found["preemptions"]), (0.05, 2))
        self.assertEqual(found["swapped_in_pages"], 2048)

    def test_a_tick_or_two_of_steal_is_not_resolved(self):
        before, after = conditions.Usage(0, 0, None, 0), conditions.Usage(100_000_000, 1, None, 2)
        found = conditions.used_ratios(before, after, [0])
        self.assertEqual((found["steal_ratio"], found["wait_ratio"]), (0.0, None))


class DegradationTest(unittest.TestCase):
    def reasons(self, **changes):
        state = {"swap_used_bytes": 0}
        found = {"canary_ratio": 1.2, "clean_blocks": 8, "blocks": 300}
        found.update({"wait_ratio": 0.0, "steal_ratio": 0.0, "throttle": "unknown"})
        found.update({"before": state, "after": dict(state)})
        found.update(changes)
        return conditions.degradations(found)

    def test_noise_within_the_limits_is_nothing(self):
        self.assertEqual(self.reasons(wait_ratio=0.249, steal_ratio=0.249), [])
        self.assertEqual(self.reasons(clean_blocks=3, blocks=3), [])
        self.assertEqual(self.reasons(wait_ratio=None, steal_ratio=None, throttle="none"), [])
        self.assertEqual(self.reasons(after={"swap_used_bytes": 4 << 20}), [])
        self.assertEqual(self.reasons(after={"swap_used_bytes": None}), [])
        self.assertEqual(self.reasons(memory_stall_ratio=0.05, swapped_in_pages=100), [])
        self.assertEqual(self.reasons(memory_stall_ratio=None, swapped_in_pages=None), [])

    def test_each_limit_has_its_reason(self):
        self.assertIn("7 of 300 blocks ran at the core's full pace", self.reasons(clean_blocks=7)[0])
        self.assertIn("20 % slow", self.reasons(clean_blocks=7)[0])
        self.assertIn("waited for a CPU", self.reasons(wait_ratio=0.26)[0])
        self.assertIn("hypervisor", self.reasons(steal_ratio=0.26)[0])
        self.assertIn("swap grew", self.reasons(after={"swap_used_bytes": 5 << 20})[0])
        self.assertIn("throttled", self.reasons(throttle="seen")[0])
        self.assertIn("waiting for memory (limit 5 %)", self.reasons(memory_stall_ratio=0.06)[0])
        self.assertIn("came back from swap", self.reasons(swapped_in_pages=(4 << 20) // conditions.PAGE_BYTES + 1)[0])

    def test_the_temperature_of_throttling_counts_where_no_counter_would_tell(self):
        hot = {"swap_used_bytes": 0, "temperature_c": 80.4, "throttle_c": 80.0}
        cool = dict(hot, temperature_c=79.9)
        self.assertIn("had 80 °C, it is slowed down from 80 °C on", self.reasons(before=hot, after=cool)[0])
        self.assertEqual(self.reasons(before=cool, after=cool), [])
        self.assertEqual(self.reasons(before=hot, after=hot, throttle="none"), [])
        self.assertEqual(self.reasons(before=dict(hot, throttle_c=None), after=dict(hot, throttle_c=None)), [])
        self.assertEqual(self.reasons(before=dict(hot, temperature_c=None), after=dict(hot, temperature_c=None)), [])


class PlacementTest(Tree):
    def test_the_worker_leaves_the_first_cpu_to_the_supervisor(self):
        cpus = [placement.Cpu(n, 0, 0) for n in range(4)]
        self.assertEqual(placement.place(cpus, 1), ([3], [0, 1, 2]))
        self.assertEqual(placement.place(cpus, 4), ([0, 1, 2, 3], [0, 1, 2, 3]))
        with self.assertRaises(ValueError):
            placement.place(cpus, 5)

    def test_big_cores_come_first_and_one_thread_per_core(self):
        files = self.plant(
            {
                "sys/devices/system/cpu/cpu0/cpu_capacity": "1024",
                "sys/devices/system/cpu/cpu1/cpu_capacity": "400",
                "sys/devices/system/cpu/cpu2/cpufreq/cpuinfo_max_freq": "900",
            }
        )
        self.assertEqual(placement.place(placement.read_cpus(files, [0, 1, 2]), 2), ([0, 2], [1]))
        threads = {}
        for cpu in range(4):
            threads["sys/devices/system/cpu/cpu%d/topology/thread_siblings_list" % cpu] = (
                "0,2" if cpu in (0, 2) else "1,3"
            )
        self.assertEqual(placement.place(placement.read_cpus(self.plant(threads), range(4)), 2), ([0, 1], [2, 3]))


if __name__ == "__main__":
    unittest.main()
