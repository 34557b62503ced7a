"""Runs under every Python from 3.8: standard library only."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009, PT027, PTH116, PTH118, PTH123, PTH208, RUF005

import os
import stat
import tempfile
import unittest

from hwloop_agent.journal import Journal, JournalFullError, read_records

RECORDS = [{"trial_id": "a", "n": 1}, {"text": "é\n\u2028", "x": [1.5, None]}, {"deep": {"er": {"k": -0.25}}}]


class JournalTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(self.folder, "journal.ndjson")

    def write(self, records=RECORDS):
        with Journal.open(self.path, sync=False) as journal:
            for record in records:
                journal.append(record)

    def bytes(self):
        with open(self.path, "rb") as file:
            return file.read()

    def test_what_was_appended_is_there_when_opened_again(self):
        self.write()
        with Journal.open(self.path) as journal:
            self.assertEqual(journal.records, RECORDS)
            self.assertEqual((journal.cut_bytes, journal.last_seq), (0, 3))
            self.assertEqual(journal.append({"n": 4}), 4)
        self.assertEqual(read_records(self.path), (RECORDS + [{"n": 4}], 0))

    def test_it_is_private(self):
        self.write()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_cut_anywhere_it_keeps_whole_records_and_sets_the_rest_aside(self):
        self.write()
        whole = self.bytes()
        ends = [0] + [i + 1 for i, byte in enumerate(whole) if byte == 10]
        for length in range(len(whole) + 1):
            with open(self.path, "wb") as file:
                file.write(whole[:length])
            kept = sum(end <= length for end in ends) - 1
            torn = whole[ends[kept] : length]
            self.assertEqual(read_records(self.path), (RECORDS[:kept], len(torn)))
            with Journal.open(self.path, sync=False) as journal:
                self.assertEqual(journal.records, RECORDS[:kept])
                self.assertEqual(journal.cut_bytes, len(torn))
                if torn:
                    with open(journal.cut_path, "rb") as file:
                        self.assertEqual(file.read(), torn)
                self.assertEqual(journal.append({"after": length}), kept + 1)
            self.assertEqual(read_records(self.path), (RECORDS[:kept] + [{"after": length}], 0))

    def test_one_flipped_byte_anywhere_never_changes_a_record_silently(self):
        self.write()
        whole = self.bytes()
        for offset in range(len(whole)):
            damaged = bytearray(whole)
            damaged[offset] ^= 0x01
            with open(self.path, "wb") as file:
                file.write(damaged)
            records, cut = read_records(self.path)
            self.assertEqual(records, RECORDS[: len(records)])
            self.assertGreater(cut, 0)

    def test_two_tails_cut_at_one_place_are_both_kept(self):
        self.write(RECORDS[:1])
        for tail in (b"first", b"second"):
            with open(self.path, "ab") as file:
                file.write(tail)
            Journal.open(self.path).close()
        cuts = sorted(name for name in os.listdir(self.folder) if ".cut-" in name)
        self.assertEqual(len(cuts), 2)

    def test_reading_changes_nothing(self):
        self.write()
        with open(self.path, "ab") as file:
            file.write(b"torn")
        before = self.bytes()
        self.assertEqual(read_records(self.path), (RECORDS, 4))
        self.assertEqual(self.bytes(), before)
        self.assertEqual(read_records(self.path + ".absent"), ([], 0))

    def test_a_record_that_would_not_read_back_is_refused_and_leaves_no_trace(self):
        self.write()
        before = self.bytes()
        deep = {}
        for _ in range(40):
            deep = {"d": deep}
        with Journal.open(self.path) as journal:
            for bad in ({"x": float("nan")}, {"x": object()}, {"x": 10**25}, deep, {1: "a", "1": "b"}, ["list"]):
                with self.assertRaises(ValueError):
                    journal.append(bad)
        self.assertEqual(self.bytes(), before)

    def test_keys_that_are_numbers_become_text_before_the_checksum(self):
        self.write([{"widths": {2: "a", 10: "b"}, "pair": (1, 2)}])
        self.assertEqual(read_records(self.path), ([{"widths": {"2": "a", "10": "b"}, "pair": [1, 2]}], 0))

    def test_later_changes_to_the_callers_dict_do_not_reach_the_records(self):
        record = {"reasons": ["a"]}
        with Journal.open(self.path) as journal:
            journal.append(record)
            record["reasons"].append("b")
            self.assertEqual(journal.records, [{"reasons": ["a"]}])

    def test_a_full_journal_refuses_and_stays_whole(self):
        with Journal.open(self.path, max_bytes=200) as journal:
            with self.assertRaises(JournalFullError):
                for _ in range(100):
                    journal.append({"x": "y" * 20})
            kept = list(journal.records)
        self.assertEqual(read_records(self.path), (kept, 0))

    def test_a_disk_error_takes_the_torn_record_back(self):
        with Journal.open(self.path, sync=False) as journal:
            journal.append(RECORDS[0])
            resource = __import__("resource")
            signal = __import__("signal")
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(self.bytes()) + 30, hard))
            try:
                with self.assertRaises(OSError):
                    journal.append({"x": "y" * 100})
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
                signal.signal(signal.SIGXFSZ, previous)
            self.assertEqual(journal.append(RECORDS[1]), 2)
        self.assertEqual(read_records(self.path), (RECORDS[:2], 0))

    def test_forgetting_keeps_the_count(self):
        with Journal.open(self.path) as journal:
            for n in range(1, 6):
                journal.append({"n": n})
            journal.drop_through(3)
            self.assertEqual(journal.numbered(), [(4, {"n": 4}), (5, {"n": 5})])
            journal.drop_through(5)
            self.assertEqual(journal.numbered(), [(5, {"n": 5})])
            self.assertEqual(journal.append({"n": 6}), 6)
        with Journal.open(self.path) as journal:
            self.assertEqual(journal.numbered(5), [(6, {"n": 6})])
            self.assertEqual(journal.last_seq, 6)

    def test_a_gap_in_the_numbers_ends_the_valid_prefix(self):
        self.write()
        lines = self.bytes().splitlines(True)
        with open(self.path, "wb") as file:
            file.writelines([lines[0], lines[2]])
        self.assertEqual(read_records(self.path), (RECORDS[:1], len(lines[2])))

    def test_a_closed_journal_refuses(self):
        journal = Journal.open(self.path)
        journal.close()
        journal.close()
        with self.assertRaises(OSError):
            journal.append({})


if __name__ == "__main__":
    unittest.main()
