"""Runs under every Python from 3.8. Boards are trees of files, as their kernels lay them out."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009, PT027, PTH101, PTH103, PTH108, PTH110, PTH118, PTH120, PTH123, RUF012, SIM117, UP031

import os
import shutil
import tempfile
import time
import unittest
from unittest import mock

from hwloop_agent import throttle
from hwloop_agent.sensors import admission, energy, gate, rails, tools, tuning
from hwloop_agent.sensors.board import Sensors
from hwloop_agent.sensors.profile import GENERIC, Profile, parse_profile, recognise
from hwloop_agent.sysfiles import SysFiles

PI = Profile("raspberry-pi", "", ["raspberrypi,*"], ["Raspberry Pi*"], cpu_zones=["cpu-thermal"], needs=["pi_firmware"])
ORIN = Profile(
    "jetson-orin",
    "",
    ["nvidia,p3767-*"],
    rails=["VDD_IN"],
    cpu_zones=["cpu-thermal"],
    needs=["cooling", "over_current"],
)
NANO = Profile("jetson-nano", "", ["nvidia,jetson-nano"], rails=["POM_5V_IN"], period_ms=100.0)
X86 = Profile("generic-x86", arch=["x86_64"], needs=["thermal_count"])

WORD = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI3 = {
    "proc/device-tree/model": "Raspberry Pi 3 Model B Rev 1.2\0",
    "proc/device-tree/compatible": "raspberrypi,3-model-b\0brcm,bcm2837\0",
    WORD: "0\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "51540",
}
PI5 = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "48250",
    "sys/class/hwmon/hwmon2/name": "rpi_volt",
    "sys/class/hwmon/hwmon2/in0_lcrit_alarm": "0",
}
JETSON_ORIN = {
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "49812",
    "sys/class/thermal/thermal_zone9/type": "tj-thermal",
    "sys/class/thermal/thermal_zone9/temp": "52000",
    "sys/class/thermal/cooling_device3/type": "cpufreq-cpu0",
    "sys/class/thermal/cooling_device3/cur_state": "0",
    "sys/class/hwmon/hwmon1/name": "ina3221",
    "sys/class/hwmon/hwmon1/update_interval": "25",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon1/in1_input": "5000",
    "sys/class/hwmon/hwmon1/curr1_input": "1200",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV",
    "sys/class/hwmon/hwmon1/in2_input": "5000",
    "sys/class/hwmon/hwmon1/curr2_input": "400",
    "sys/class/hwmon/hwmon1/in3_label": "NC",
    "sys/class/hwmon/hwmon1/in3_input": "0",
    "sys/class/hwmon/hwmon1/curr3_input": "0",
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages",
    "sys/class/hwmon/hwmon1/in7_input": "12",
    "sys/class/hwmon/hwmon3/name": "soctherm_oc",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "0",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "27",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
}
IIO = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/"
JETSON_NANO = {
    "proc/device-tree/compatible": "nvidia,p3450-0000\0nvidia,jetson-nano\0nvidia,tegra210\0",
    "sys/class/thermal/thermal_zone0/type": "AO-therm",
    "sys/class/thermal/thermal_zone0/temp": "45000",
    "sys/class/thermal/thermal_zone1/type": "CPU-therm",
    "sys/class/thermal/thermal_zone1/temp": "38500",
    "sys/class/thermal/thermal_zone4/type": "PMIC-Die",
    "sys/class/thermal/thermal_zone4/temp": "100000",
    IIO + "rail_name_0": "POM_5V_IN",
    IIO + "in_power0_input": "2875",
    IIO + "rail_name_1": "POM_5V_GPU",
    IIO + "in_power1_input": "40",
}
RAPL = "sys/class/powercap/intel-rapl:0/"
LAPTOP = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse2 avx2",
    "sys/class/thermal/thermal_zone2/type": "x86_pkg_temp",
    "sys/class/thermal/thermal_zone2/temp": "44000",
    "sys/class/thermal/thermal_zone3/type": "iwlwifi_1",
    "sys/class/thermal/thermal_zone3/temp": "61000",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "12",
    RAPL + "name": "package-0",
    RAPL + "energy_uj": "262143000000",
    RAPL + "max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:0:0/name": "core",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1",
    "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143328850",
}
DESKTOP = {
    "sys/class/thermal/thermal_zone0/type": "acpitz",
    "sys/class/thermal/thermal_zone0/temp": "16800",
    "sys/class/hwmon/hwmon0/name": "k10temp",
    "sys/class/hwmon/hwmon0/temp1_input": "57250",
}
POLICIES = "sys/devices/system/cpu/cpufreq/policy%d/"


class Tree(unittest.TestCase):
    def plant(self, files):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        for name, text in files.items():
            self.write(name, text)
        parts = [os.path.join(self.root, name) for name in ("proc", "sys", "")]
        return SysFiles(parts[0], parts[1], parts[2], (os.path.join(self.root, "bin"),))

    def write(self, name, text):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    def program(self, name, script):
        self.write("bin/" + name, "#!/bin/sh\n" + script + "\n")
        os.chmod(os.path.join(self.root, "bin", name), 0o755)

    def make_unreadable(self, name):
        """A directory in its place: reading it fails for root too."""
        path = os.path.join(self.root, name)
        if os.path.exists(path):
            os.unlink(path)
        os.makedirs(path)


class ProfileTest(Tree):
    def test_the_most_specific_entry_of_the_device_tree_decides(self):
        soc = Profile("any-tegra234", compatible=["nvidia,tegra234"])
        self.assertEqual(recognise(self.plant(JETSON_ORIN), [soc, ORIN], "aarch64").name, "jetson-orin")

    def test_a_board_is_known_by_its_model_and_then_by_its_processor(self):
        files = self.plant({"proc/device-tree/model": "Raspberry Pi 9 Model Z\0"})
        self.assertEqual(recognise(files, [X86, PI], "aarch64"), PI)
        self.assertEqual(recognise(self.plant({}), [PI, X86], "x86_64"), X86)
        self.assertEqual(recognise(self.plant({}), [PI, X86], "riscv64"), GENERIC)

    def test_a_profile_survives_the_way_to_the_worker(self):
        sent = {
            key: list(value) if isinstance(value, (list, tuple)) else value for key, value in ORIN._asdict().items()
        }
        self.assertEqual(parse_profile(sent).rails, ("VDD_IN",))
        self.assertEqual(parse_profile({}), GENERIC)

    def test_what_is_no_profile_is_refused_by_key(self):
        for content, word in (
            ({"nonsense": 1}, "keys"),
            ([], "keys"),
            ({"needs": ["magic"]}, "needs"),
            ({"throttle_c": True}, "throttle_c"),
            ({"throttle_c": 1000}, "throttle_c"),
            ({"period_ms": "often"}, "period_ms"),
            ({"rails": "VDD_IN"}, "rails"),
            ({"rails": ["x\x1b[31m"]}, "rails"),
            ({"name": 5}, "name"),
        ):
            with self.assertRaisesRegex(ValueError, word):
                parse_profile(content)


class EvidenceTest(Tree):
    def look(self, files, profile):
        return throttle.read_evidence(files, profile)

    def test_every_board_that_answers_as_its_profile_says_is_certified(self):
        for tree, profile in ((PI3, PI), (JETSON_ORIN, ORIN), (LAPTOP, X86)):
            evidence = self.look(self.plant(tree), profile)
            self.assertEqual((evidence.certifies, evidence.doubts), (True, []))
            self.assertEqual(throttle.verdict(evidence, evidence), "none")

    def test_a_raspberry_pi_5_is_asked_with_vcgencmd(self):
        files = self.plant(PI5)
        self.program("vcgencmd", '[ "$*" = get_throttled ] && echo throttled=0x0')
        before = self.look(files, PI)
        self.assertEqual(throttle.verdict(before, before), "none")
        self.program("vcgencmd", "echo throttled=0x50005")
        self.assertEqual(throttle.verdict(before, self.look(files, PI)), "seen")

    def test_a_raspberry_pi_5_without_a_word_is_unknown_although_its_voltage_is_fine(self):
        files = self.plant(PI5)
        for script in (None, "echo VCHI initialization failed; exit 255", "echo throttled=maybe", "exit 0"):
            if script:
                self.program("vcgencmd", script)
            evidence = self.look(files, PI)
            self.assertEqual(throttle.verdict(evidence, evidence), "unknown")
            self.assertTrue(any("get_throttled cannot be read" in doubt for doubt in evidence.doubts))
        self.program("vcgencmd", "echo VCHI initialization failed; exit 255")
        self.assertIn("VCHI initialization failed", self.look(files, PI).doubts[0])

    def test_a_word_in_a_raspberry_pi_5s_own_place_is_found(self):
        word = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
        evidence = self.look(self.plant(dict(PI5, **{word: "0"})), PI)
        self.assertEqual(throttle.verdict(evidence, evidence), "none")

    def test_sticky_bits_of_before_are_unknown_and_a_new_one_is_seen(self):
        files = self.plant(dict(PI3, **{WORD: "80000"}))
        before = self.look(files, PI)
        self.assertEqual(throttle.verdict(before, before), "unknown")
        self.write(WORD, "a0000")
        self.assertEqual(throttle.verdict(before, self.look(files, PI)), "seen")

    def test_a_jetson_without_over_current_counters_or_cooling_devices_is_unknown(self):
        for part in ("hwmon3", "cooling_device3"):
            tree = {name: text for name, text in JETSON_ORIN.items() if part not in name}
            evidence = self.look(self.plant(tree), ORIN)
            self.assertEqual(throttle.verdict(evidence, evidence), "unknown")

    def test_a_source_that_vanishes_or_stops_answering_is_unknown(self):
        for name in (
            "sys/class/hwmon/hwmon3/oc1_event_cnt",
            "sys/class/thermal/cooling_device3/cur_state",
        ):
            files = self.plant(JETSON_ORIN)
            before = self.look(files, ORIN)
            self.make_unreadable(name)
            self.assertEqual(throttle.verdict(before, self.look(files, ORIN)), "unknown")

    def test_a_program_that_hangs_is_given_up(self):
        files = self.plant({})
        self.program("vcgencmd", "exec sleep 20")
        began = time.monotonic()
        self.assertEqual(tools.ask(files, ["vcgencmd"], deadline_s=0.1), (False, "vcgencmd took more than 0.1 s"))
        self.assertLess(time.monotonic() - began, 15)


class ReadingTest(Tree):
    def test_the_hottest_zone_of_the_cpu_is_the_temperature(self):
        self.assertEqual(Sensors(self.plant(JETSON_ORIN), ORIN).temperature_c(), 49.812)
        self.assertEqual(Sensors(self.plant(JETSON_NANO)).temperature_c(), 38.5)
        self.assertEqual(Sensors(self.plant(LAPTOP)).temperature_c(), 44.0)

    def test_a_chip_without_a_thermal_zone_answers_through_hwmon(self):
        self.assertEqual(Sensors(self.plant(DESKTOP)).temperature_c(), 57.25)

    def test_a_cpu_zone_that_cannot_be_read_is_none_and_not_another_zone(self):
        files = self.plant(JETSON_ORIN)
        self.make_unreadable("sys/class/thermal/thermal_zone0/temp")
        self.assertIsNone(Sensors(files, ORIN).temperature_c())
        self.assertIn(("cpu-thermal", None, True), Sensors(files, ORIN).temperatures())

    def test_the_power_mode_is_read_without_root(self):
        self.assertEqual(Sensors(self.plant(JETSON_ORIN)).power_mode(), "MAXN_SUPER")
        files = self.plant({"var/lib/nvpmodel/status": "pmode:0007"})
        self.assertEqual(Sensors(files).power_mode(), "mode 7")
        self.assertIsNone(Sensors(self.plant({"var/lib/nvpmodel/status": "?"})).power_mode())
        self.assertIsNone(Sensors(self.plant({})).power_mode())


class RailTest(Tree):
    def test_rails_are_found_by_label_and_unconnected_channels_are_not(self):
        found = rails.find_rails(self.plant(JETSON_ORIN))
        self.assertEqual([rail.label for rail in found], ["VDD_IN", "VDD_CPU_GPU_CV"])
        self.assertEqual([rails.read_mw(rail) for rail in found], [6000.0, 2000.0])
        self.assertEqual(found[0].interval_ms, 25)

    def test_an_old_jetsons_rails_are_iio_devices(self):
        found = rails.find_rails(self.plant(JETSON_NANO))
        self.assertEqual(
            [(rail.label, rails.read_mw(rail)) for rail in found], [("POM_5V_IN", 2875), ("POM_5V_GPU", 40)]
        )

    def test_a_sum_with_an_unreadable_rail_is_none(self):
        found = rails.find_rails(self.plant(JETSON_ORIN))
        self.assertEqual(rails.total_mw(found), 8000.0)
        self.make_unreadable("sys/class/hwmon/hwmon1/curr2_input")
        self.assertIsNone(rails.total_mw(found))

    def test_only_packages_count_of_rapls_zones(self):
        found = rails.find_counters(self.plant(LAPTOP))
        self.assertEqual([counter.name for counter in found], ["package-0"])

    def test_facts_name_what_could_tell_energy_and_what_cannot(self):
        told = Sensors(self.plant(JETSON_ORIN), ORIN).power()
        self.assertEqual((told["rails"][0], told["total_of"]), ({"label": "VDD_IN", "milliwatts": 6000.0}, ["VDD_IN"]))
        files = self.plant(LAPTOP)
        self.assertEqual(Sensors(files).power()["reason"], "")
        self.make_unreadable(RAPL + "energy_uj")
        self.assertIn("package-0 cannot be read", Sensors(files).power()["reason"])


class CounterTest(Tree):
    def clock(self, *moments):
        return mock.Mock(side_effect=moments)

    def measure(self, after, moments=(100.0, 102.0), runs=1000, busy_s=1.0, **changes):
        meter = energy.CounterMeter(rails.find_counters(self.plant(dict(LAPTOP, **changes))), self.clock(*moments))
        meter.start()
        if after is not None:
            self.write(RAPL + "energy_uj", str(after))
        return meter.stop(runs, busy_s)

    def test_joules_of_a_run_are_the_mean_power_times_its_time(self):
        found = self.measure(20_000_000, **{RAPL + "energy_uj": "0"})
        self.assertEqual((found["method"], found["rails"], found["reason"]), ("rapl", ["package-0"], ""))
        # 20 J in 2 s are 10 W; 1000 runs took 1 s of it.
        self.assertEqual((found["mean_w"], found["joules_per_run"], found["run_share"]), (10.0, 0.01, 0.5))
        self.assertEqual(found["periods"], 2000)

    def test_a_counter_that_starts_again_is_unrolled(self):
        found = self.measure(19_671_150)  # 328.85 mJ to its range, then this much
        self.assertAlmostEqual(found["mean_w"], 10.0, places=3)

    def test_a_counter_that_may_have_gone_around_twice_says_nothing(self):
        found = self.measure(5, moments=(0.0, 10.0), **{RAPL + "max_energy_range_uj": "65000000"})
        self.assertIsNone(found["joules_per_run"])
        self.assertIn("more than once", found["reason"])

    def test_a_counter_without_a_range_that_goes_backwards_says_nothing(self):
        found = self.measure(5, **{RAPL + "max_energy_range_uj": "unknown"})
        self.assertIn("went backwards", found["reason"])

    def test_a_counter_that_does_not_move_says_nothing(self):
        self.assertIn("did not move", self.measure(None)["reason"])

    def test_fewer_than_twenty_periods_say_nothing_but_what_is_needed(self):
        found = self.measure(20_000_000, moments=(0.0, 0.0195), **{RAPL + "energy_uj": "0"})
        self.assertIsNone(found["joules_per_run"])
        self.assertIn("19 periods of the sensor (1 ms), 20 are needed: min_s of at least 0.02", found["reason"])

    def test_a_counter_that_vanishes_is_named(self):
        files = self.plant(LAPTOP)
        meter = energy.open_meter(files, X86, [0])
        meter.start()
        shutil.rmtree(os.path.join(self.root, "sys/class/powercap"))
        found = meter.stop(10, 1.0)
        self.assertEqual((found["joules_per_run"], found["reason"]), (None, "package-0 cannot be read"))
        meter.close()


class TallyTest(unittest.TestCase):
    SPAN = energy.Span(0.0, 10.0, 100, 5.0)

    def judge(self, samples, span=SPAN):
        tally = energy.Tally()
        for moment, power in samples:
            tally.add(moment, power)
        return energy.judge(tally.summary(), ["VDD_IN"], 100.0, span, "rails")

    def test_a_ramp_has_its_mean_power(self):
        found = self.judge([(i / 10, 1000.0 + 10 * i) for i in range(101)])
        self.assertAlmostEqual(found["mean_w"], 1.5)
        self.assertAlmostEqual(found["joules_per_run"], 1.5 * 5 / 100)
        self.assertEqual((found["periods"], found["run_share"], found["reason"]), (100, 0.5, ""))

    def test_uneven_samples_weigh_by_their_time(self):
        moments = [0.0, 0.1, 0.3] + [0.3 + i / 10 for i in range(1, 98)]
        found = self.judge([(moment, 2000.0 if moment < 0.2 else 1000.0) for moment in moments])
        self.assertAlmostEqual(found["mean_w"], (0.1 * 2 + 0.2 * 1.5 + 9.7) / 10, places=4)

    def test_a_failed_read_a_gap_or_an_uncovered_end_make_it_unknown(self):
        even = [(i / 10, 1000.0) for i in range(101)]
        self.assertIn("1 of 102 reads", self.judge([*even, (10.05, None)])["reason"])
        self.assertIn("not read for more than 3", self.judge(even[:50] + even[54:])["reason"])
        self.assertIn("not read for more than 3", self.judge(even[:90])["reason"])
        self.assertIn("only once", self.judge(even[:1])["reason"])
        self.assertIn("3 of 3 reads", self.judge([(0, None), (1, None), (2, None)])["reason"])
        self.assertIn("no power flows", self.judge([(moment, 0.0) for moment, _ in even])["reason"])

    def test_a_span_of_too_few_periods_is_unknown(self):
        span = energy.Span(0.0, 1.9, 100, 1.0)
        found = self.judge([(i / 10, 1000.0) for i in range(20)], span)
        self.assertEqual((found["joules_per_run"], found["periods"]), (None, 19))
        self.assertIn("min_s of at least 2", found["reason"])


class RailMeterTest(Tree):
    def test_a_helper_samples_the_rail_while_it_is_asked_to(self):
        meter = energy.open_meter(self.plant(JETSON_ORIN), ORIN, sorted(os.sched_getaffinity(0)))
        try:
            meter.start()
            time.sleep(0.6)
            found = meter.stop(1000, 0.5)
        finally:
            meter.close()
        if "not read for more than" not in found["reason"]:  # a machine so busy that the helper did not wake
            self.assertEqual((found["method"], found["rails"], found["mean_w"]), ("rails", ["VDD_IN"], 6.0))
            self.assertEqual((found["joules_per_run"], found["period_ms"]), (0.003, 25.0))
            self.assertGreaterEqual(found["periods"], 20)

    def test_a_rail_that_vanishes_in_the_middle_makes_it_unknown(self):
        meter = energy.open_meter(self.plant(JETSON_ORIN), ORIN, sorted(os.sched_getaffinity(0)))
        try:
            meter.start()
            os.unlink(os.path.join(self.root, "sys/class/hwmon/hwmon1/curr1_input"))
            time.sleep(0.1)
            found = meter.stop(1000, 0.1)
        finally:
            meter.close()
        self.assertIsNone(found["joules_per_run"])
        self.assertRegex(found["reason"], "[0-9]+ of [0-9]+ reads of VDD_IN failed")

    def test_a_helper_that_died_is_told(self):
        meter = energy.open_meter(self.plant(JETSON_ORIN), ORIN, sorted(os.sched_getaffinity(0)))
        meter.start()
        os.kill(meter._child, 9)
        self.assertIn("has died", meter.stop(1, 0.1)["reason"])
        meter.close()

    def test_why_there_is_no_meter(self):
        for tree, profile, cpus, words in (
            ({}, GENERIC, [0], "no power sensor"),
            ({}, ORIN, [0], "no power sensor of this board was found (jetson-orin has VDD_IN)"),
            (JETSON_ORIN, GENERIC, [0], "does not say which of the rails VDD_IN, VDD_CPU_GPU_CV"),
            (JETSON_ORIN, NANO, [0], "the board has no rail POM_5V_IN (it has VDD_CPU_GPU_CV, VDD_IN)"),
            (JETSON_ORIN, ORIN, [], "uses all CPUs"),
        ):
            meter = energy.open_meter(self.plant(tree), profile, cpus)
            meter.start()
            found = meter.stop(1, 1.0)
            self.assertIsNone(found["joules_per_run"])
            self.assertIn(words, found["reason"])
            meter.close()


class GateTest(Tree):
    def wait(self, temperatures, baseline_c, rule=None):
        readings, self.now = list(temperatures), 0.0

        def sleep(seconds):
            self.now += seconds

        def read():
            return readings.pop(0) if len(readings) > 1 else readings[0]

        return gate.wait(read, baseline_c, rule or gate.Rule(), lambda: self.now, sleep)

    def test_a_cool_board_and_a_first_trial_pass_at_once(self):
        self.assertEqual(self.wait([50.0], 45.0)["gate"], "passed")
        told = self.wait([70.0], None)
        self.assertEqual((told["gate"], told["gate_start_c"], told["gate_wait_s"]), ("passed", 70.0, 0.0))

    def test_a_hot_board_waits_until_it_is_cool_enough(self):
        told = self.wait([60.0, 58.0, 51.0, 49.9], 45.0)
        self.assertEqual((told["gate"], told["gate_start_c"], told["gate_wait_s"]), ("passed", 49.9, 1.5))

    def test_a_board_that_stays_hot_is_run_after_the_timeout(self):
        told = self.wait([60.0], 45.0, gate.Rule(5.0, 3.2))
        self.assertEqual((told["gate"], told["gate_wait_s"], told["gate_baseline_c"]), ("timeout", 3.2, 45.0))

    def test_no_sensor_and_one_that_vanishes_are_unknown(self):
        self.assertEqual(self.wait([None], 45.0)["gate"], "unknown")
        self.assertEqual(self.wait([60.0, None], 45.0)["gate"], "unknown")

    def test_it_can_be_switched_off(self):
        self.assertEqual(self.wait([90.0], 45.0, gate.Rule(5.0, 0))["gate"], "off")

    def test_the_baseline_is_the_coolest_start_until_a_wait_was_in_vain(self):
        def told(verdict, start):
            return {"gate": verdict, "gate_start_c": start}

        self.assertEqual(gate.next_baseline(None, told("passed", 48.0)), 48.0)
        self.assertEqual(gate.next_baseline(48.0, told("passed", 52.0)), 48.0)
        self.assertEqual(gate.next_baseline(48.0, told("passed", 41.0)), 41.0)
        self.assertEqual(gate.next_baseline(41.0, told("timeout", 55.0)), 55.0)
        self.assertEqual(gate.next_baseline(41.0, told("off", 30.0)), 41.0)
        self.assertEqual(gate.next_baseline(41.0, told("unknown", None)), 41.0)

    def test_the_baseline_is_kept_for_the_boot(self):
        self.plant({})
        path = os.path.join(self.root, "thermal.json")
        gate.ThermalBook(path, "boot 1").learn({"gate": "passed", "gate_start_c": 44.5})
        self.assertEqual(gate.ThermalBook(path, "boot 1").get(), 44.5)
        self.assertIsNone(gate.ThermalBook(path, "boot 2").get())
        self.assertIsNone(gate.ThermalBook(path, None).get())
        self.write("thermal.json", "[]")
        self.assertIsNone(gate.ThermalBook(path, "boot 1").get())


class AdmissionTest(Tree):
    SPEC = {
        "artifact": {"size": 100 << 20},
        "inputs": [{"shape": [1, 3, 224, 224], "dtype": "float32"}, {"shape": [10], "dtype": "int64"}],
    }

    def test_what_needs_more_than_there_is_is_refused_with_both_numbers(self):
        needed = admission.needed_bytes(self.SPEC)
        self.assertEqual(needed, 2 * (100 << 20) + 2 * (3 * 224 * 224 * 4 + 80) + (64 << 20))
        enough = self.plant({"proc/meminfo": "MemAvailable: %d kB" % (1.5 * needed / 1024 + 1)})
        self.assertIsNone(admission.refusal(enough, self.SPEC))
        text = admission.refusal(self.plant({"proc/meminfo": "MemAvailable: 300000 kB"}), self.SPEC)
        self.assertIn("307 MB of memory are available, and this network needs 417 MB", text)

    def test_where_nobody_can_tell_and_nothing_is_loaded_it_is_not_refused(self):
        self.assertIsNone(admission.refusal(self.plant({}), self.SPEC))
        tiny = self.plant({"proc/meminfo": "MemAvailable: 1 kB"})
        self.assertIsNone(admission.refusal(tiny, {"artifact": None, "inputs": []}))


class TuningTest(Tree):
    def board(self, **changes):
        tree = {}
        for number, governor in ((0, "schedutil"), (4, "performance")):
            folder = POLICIES % number
            tree[folder + "scaling_governor"] = governor + "\n"
            tree[folder + "scaling_available_governors"] = "performance powersave schedutil "
        tree.update(changes)
        return self.plant(tree)

    def governor(self, number=0):
        with open(os.path.join(self.root, POLICIES % number, "scaling_governor")) as file:
            return file.read().strip()

    def left(self):
        return os.path.exists(os.path.join(self.root, "tuned.json"))

    def hold(self, files, wait=lambda: None, boot="boot 1"):
        self.events = []
        return tuning.hold(self.root, files, boot, self.events.append, wait)

    def test_it_is_tuned_while_it_is_held_and_put_back_afterwards(self):
        files, seen = self.board(), []
        back = self.hold(files, lambda: seen.append((self.governor(), self.left())))
        self.assertEqual(seen, [("performance", True)])
        self.assertEqual(self.governor(), "schedutil")
        self.assertFalse(self.left())
        self.assertEqual([change["after"] for change in self.events[0]["changes"]], ["performance"])
        self.assertEqual([change["after"] for change in back], ["schedutil"])

    def test_it_is_put_back_when_waiting_fails(self):
        with self.assertRaises(KeyboardInterrupt):
            self.hold(self.board(), mock.Mock(side_effect=KeyboardInterrupt))
        self.assertEqual((self.governor(), self.left()), ("schedutil", False))

    def test_the_next_session_puts_back_what_a_dead_holder_left(self):
        files = self.board()
        if os.fork() == 0:
            self.hold(files, lambda: os._exit(0))
        os.wait()
        self.assertEqual((self.governor(), self.left()), ("performance", True))
        self.assertEqual(len(tuning.recover(self.root, files, "boot 1")), 1)
        self.assertEqual((self.governor(), self.left()), ("schedutil", False))
        self.assertEqual(tuning.recover(self.root, files, "boot 1"), [])

    def test_a_living_holder_is_left_alone(self):
        files, inside = self.board(), []

        def wait():
            inside.append(tuning.recover(self.root, files, "boot 1"))
            with self.assertRaisesRegex(tuning.TuningError, "tuned already"):
                tuning.hold(self.root, files, "boot 1", lambda event: None, lambda: None)
            inside.append(self.governor())

        self.hold(files, wait)
        self.assertEqual(inside, [[], "performance"])

    def test_values_of_another_boot_are_forgotten(self):
        files = self.board()
        self.write("tuned.json", '{"boot_id": "boot 0", "values": {"%s": "powersave"}}' % tuning.plan(files)[0]["file"])
        self.assertEqual(tuning.recover(self.root, files, "boot 1"), [])
        self.assertEqual((self.governor(), self.left()), ("schedutil", False))

    def test_a_restore_file_can_change_nothing_else(self):
        files = self.board(**{"sys/secret": "kept"})
        for values in (
            '{"secret": "gone"}',
            '{"devices/system/cpu/cpufreq/policy0/../../../../../secret": "gone"}',
            '{"devices/system/cpu/cpufreq/policy0/scaling_governor": "; rm"}',
            "7",
        ):
            self.write("tuned.json", '{"boot_id": "boot 1", "values": %s}' % values)
            self.assertEqual(tuning.recover(self.root, files, "boot 1"), [])
        with open(os.path.join(self.root, "sys/secret")) as file:
            self.assertEqual(file.read(), "kept")
        for name, value in (("secret", "x"), (tuning.plan(files)[0]["file"], "a b")):
            with self.assertRaisesRegex(tuning.TuningError, "not among"):
                tuning.write(files, name, value)

    def test_without_root_it_goes_through_sudo_and_is_refused_clearly_without_that(self):
        files = self.board()
        with mock.patch("hwloop_agent.sensors.tuning.open", create=True, side_effect=PermissionError):
            with self.assertRaisesRegex(tuning.TuningError, "root only .sudo is not installed.*sudo -n tee /"):
                self.hold(files)
            self.assertEqual((self.governor(), self.left()), ("schedutil", False))
            self.program("sudo", 'echo "sudo: a password is required"; exit 1')
            with self.assertRaisesRegex(tuning.TuningError, "a password is required"):
                self.hold(files)
            self.assertEqual((self.governor(), self.left()), ("schedutil", False))
            self.program("sudo", '[ "$1 $2" = "-n tee" ] && cat > "$3"')
            seen = []
            self.hold(files, lambda: seen.append(self.governor()))
        self.assertEqual((seen, self.governor(), self.left()), (["performance"], "schedutil", False))

    def test_a_file_that_does_not_keep_the_value_is_told(self):
        files = self.board()
        self.program("sudo", "exit 0")
        with mock.patch("hwloop_agent.sensors.tuning.open", create=True, side_effect=PermissionError):
            with self.assertRaisesRegex(tuning.TuningError, "did not become performance"):
                self.hold(files)

    def test_a_board_without_the_governor_or_without_any_is_refused(self):
        with self.assertRaisesRegex(tuning.TuningError, "no governor performance"):
            self.hold(self.board(**{POLICIES % 0 + "scaling_available_governors": "ondemand"}))
        with self.assertRaisesRegex(tuning.TuningError, "no frequency governor"):
            self.hold(self.plant({}))


if __name__ == "__main__":
    unittest.main()
