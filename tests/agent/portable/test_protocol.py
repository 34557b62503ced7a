"""Runs under every Python from 3.8: standard library only."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009, PT027

import json
import unittest

from hwloop_agent import protocol
from hwloop_agent.protocol import FrameError, LineReader, Message

GOOD = {"v": 1, "id": 7, "seq": 1, "type": "hello", "body": {"nonce": "ab"}}


class DecodeTest(unittest.TestCase):
    def code_of(self, line):
        with self.assertRaises(FrameError) as caught:
            protocol.decode(line, protocol.HOST_TYPES)
        return caught.exception.code, caught.exception.message_id

    def with_(self, **changes):
        return json.dumps(dict(GOOD, **changes)).encode()

    def test_a_good_line_is_read(self):
        message = protocol.decode(json.dumps(GOOD).encode(), protocol.HOST_TYPES)
        self.assertEqual(message, Message(7, 1, "hello", {"nonce": "ab"}))

    def test_what_is_sent_reads_back(self):
        message = Message(3, 9, "canary", {"text": "é\u2028\x00", "n": 1.5})
        line = protocol.encode(message)
        self.assertEqual(line.count(b"\n"), 1)
        self.assertEqual(protocol.decode(line[:-1], protocol.HOST_TYPES), message)

    def test_every_kind_of_bad_line_has_a_name(self):
        self.assertEqual(self.code_of(b"\xff\xfe")[0], "utf8")
        self.assertEqual(self.code_of(b"{")[0], "json")
        self.assertEqual(self.code_of(b"")[0], "json")
        self.assertEqual(self.code_of(self.with_(body={"x": float("nan")}))[0], "number")
        self.assertEqual(self.code_of(self.with_(body={"x": float("inf")}))[0], "number")
        self.assertEqual(self.code_of(b'{"v":1e999}')[0], "number")
        self.assertEqual(self.code_of(b'{"v":' + b"9" * 5000 + b"}")[0], "number")
        self.assertEqual(self.code_of(b'{"v":1,"v":1}')[0], "duplicate")
        self.assertEqual(self.code_of(b"[" * 100000)[0], "depth")
        self.assertEqual(self.code_of(b'{"a":' * 40 + b"1" + b"}" * 40)[0], "depth")
        self.assertEqual(self.code_of(b'{"v":"\\ud800"}')[0], "text")
        self.assertEqual(self.code_of(b"[1]")[0], "envelope")
        self.assertEqual(self.code_of(self.with_(type="exec")), ("type", 7))
        self.assertEqual(self.code_of(self.with_(type=["hello"])), ("type", 7))
        self.assertEqual(self.code_of(self.with_(v=2)), ("version", 7))
        self.assertEqual(self.code_of(self.with_(v=True)), ("version", 7))
        self.assertEqual(self.code_of(self.with_(id=-1))[0], "envelope")
        self.assertEqual(self.code_of(self.with_(id=1 << 32))[0], "envelope")
        self.assertEqual(self.code_of(self.with_(id=True))[0], "envelope")
        self.assertEqual(self.code_of(self.with_(seq=1.0)), ("envelope", 7))
        self.assertEqual(self.code_of(self.with_(body=[])), ("envelope", 7))
        self.assertEqual(self.code_of(self.with_(more=1)), ("envelope", 7))

    def test_brackets_inside_text_are_not_depth(self):
        protocol.decode(self.with_(body={"x": "[" * 500 + '\\"{'}), protocol.HOST_TYPES)

    def test_an_oversize_message_is_refused_before_it_is_sent(self):
        with self.assertRaises(FrameError) as caught:
            protocol.encode(Message(1, 1, "log", {"message": "x" * protocol.MAX_LINE_BYTES}))
        self.assertEqual(caught.exception.code, "oversize")


class LineReaderTest(unittest.TestCase):
    def test_pieces_of_any_size_give_the_same_lines(self):
        data = b"one\n\ntwo two\nunfinished"
        for size in (1, 2, 3, 7, 100):
            reader = LineReader()
            lines = []
            for start in range(0, len(data), size):
                lines.extend(reader.feed(data[start : start + size]))
            self.assertEqual(lines, [b"one", b"", b"two two"])
            self.assertEqual(reader.held_bytes, len(b"unfinished"))

    def test_an_oversize_line_is_named_once_and_the_next_line_is_read(self):
        reader = LineReader(limit=10)
        lines = []
        for _ in range(50):
            lines.extend(reader.feed(b"x" * 7))
            self.assertLessEqual(reader.held_bytes, 10)
        lines.extend(reader.feed(b"\nshort\n" + b"y" * 10 + b"\n" + b"z" * 9 + b"\n"))
        self.assertEqual([getattr(line, "code", line) for line in lines], ["oversize", b"short", "oversize", b"z" * 9])


class NamesTest(unittest.TestCase):
    def test_equal_specs_have_equal_ids(self):
        self.assertEqual(protocol.trial_id({"a": 1, "b": [2]}), protocol.trial_id({"b": [2], "a": 1}))
        self.assertNotEqual(protocol.trial_id({"a": 1}), protocol.trial_id({"a": 1}, 2))
        self.assertRegex(protocol.trial_id({}, 3), "^[0-9a-f]{64}:3$")
        with self.assertRaises(ValueError):
            protocol.trial_id({}, 0)

    def test_no_path_can_be_made_from_an_artifact_name(self):
        good = "a" * 64
        self.assertEqual(protocol.artifact_name(good, ".onnx"), good + ".onnx")
        bad = (("../" + good, ".onnx"), (good, "/../x"), (good.upper(), ".onnx"), (good + "\n", ".onnx"), (good, ".py"))
        for sha256, suffix in bad:
            with self.assertRaises(ValueError):
                protocol.artifact_name(sha256, suffix)

    def test_session_ids_are_plain_names(self):
        for bad in ("", ".", "..", ".x", "a/b", "a\n", "x" * 65, "é"):
            self.assertIsNone(protocol.SESSION_ID.match(bad), bad)
        self.assertIsNotNone(protocol.SESSION_ID.match("study-1.run_2"))

    def test_no_terminal_escape_survives(self):
        self.assertEqual(protocol.clean_text("a\x1b[31mb\x07\nc", 100), "a\ufffd[31mb\ufffd\nc")
        self.assertEqual(protocol.clean_text("abcdef", 3), "def")


if __name__ == "__main__":
    unittest.main()
