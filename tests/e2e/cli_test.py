"""The command line against a real server: every command, wrong use of it, and servers that die.

usage: cli_test.py --bin BUILD_DIR [-k PATTERN]
"""

import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from harness import (DEMO, GOLDEN, Server, ServerTest, demo_corpus, max_difference, read_safetensors, run_tests,
                     temporary_directory, wait_for, write_safetensors)

HOOK = "blocks.3.hook_resid_post"
QUICK = ["--d-sae", 256, "--k", 8, "--batch-size", 512, "--lr", "1e-3", "--seed", 3]


class GoldenModelTest(ServerTest):
    """Numbers through the whole way: file, server, wire, command line, file."""

    def capture_agrees(self, name: str):
        expected = read_safetensors(GOLDEN / "lm" / name / "expected.safetensors")
        shape, ids = expected.pop("input_ids")
        tokens = self.dir / f"{name}.json"
        rows = [list(ids[i * shape[1]:(i + 1) * shape[1]]) for i in range(shape[0])]
        tokens.write_text(json.dumps(rows))
        out = self.dir / f"{name}.safetensors"
        self.ok("model", "add", name.replace("_", "-"), GOLDEN / "lm" / name)
        hooks = ",".join(n for n in expected if n != "logits")
        self.ok("capture", "--model", name.replace("_", "-"), "--tokens-file", tokens, "--hooks", hooks,
                "--logits", "--out", out)
        captured = read_safetensors(out)
        self.assertEqual(list(captured["input_ids"][1]), list(ids))
        for hook, (hook_shape, values) in expected.items():
            self.assertEqual(captured[hook][0], hook_shape, hook)
            self.assertLess(max_difference(captured[hook][1], values), 1e-4, hook)

    def test_gpt2_capture_agrees_with_the_reference(self):
        self.capture_agrees("gpt2")

    def test_llama_capture_agrees_with_the_reference(self):
        self.capture_agrees("llama")

    def test_inputs_of_several_lengths_are_padded_and_say_so(self):
        self.ok("model", "add", "ragged", GOLDEN / "lm" / "gpt2")
        tokens = self.dir / "ragged.json"
        tokens.write_text("[[1, 2, 3, 4], [5, 6]]")
        out = self.dir / "ragged.safetensors"
        self.ok("capture", "--model", "ragged", "--tokens-file", tokens, "--hooks",
                "blocks.1.hook_resid_pre,blocks.0.attn.hook_pattern", "--out", out)
        both = read_safetensors(out)
        self.assertEqual(list(both["lengths"][1]), [4, 2])
        self.assertEqual(both["blocks.1.hook_resid_pre"][0], [2, 4, 48])
        self.assertEqual(both["blocks.0.attn.hook_pattern"][0], [2, 4, 4, 4])
        self.assertEqual(list(both["input_ids"][1]), [1, 2, 3, 4, 5, 6, 0, 0])
        self.ok("capture", "--model", "ragged", "--tokens", "5,6", "--hooks", "blocks.1.hook_resid_pre",
                "--out", out)
        alone = read_safetensors(out)["blocks.1.hook_resid_pre"][1]
        self.assertLess(max_difference(both["blocks.1.hook_resid_pre"][1][4 * 48:6 * 48], alone), 1e-4)

    def test_sae_encode_decode_forward_agree_with_the_reference(self):
        self.ok("model", "add", "host", GOLDEN / "lm" / "gpt2")
        for name in ("v6_topk", "v6_standard"):
            directory = GOLDEN / "sae" / "saelens" / name
            sae = name.replace("_", "-")
            self.refused("sae", "add", sae, directory, "--model", "host", saying="width")
            self.ok("sae", "add", sae, directory, "--model", "host", "--any-width")
            expected = read_safetensors(directory / "expected.safetensors")
            x, acts, out = self.dir / "x.safetensors", self.dir / "a.safetensors", self.dir / "o.safetensors"
            write_safetensors(x, {"x": expected["x"]})
            self.ok("sae", "encode", sae, "--in", x, "--out", acts)
            encoded = read_safetensors(acts)
            self.assertEqual(encoded["feature_acts"][0], expected["encode"][0])
            self.assertLess(max_difference(encoded["feature_acts"][1], expected["encode"][1]), 1e-4)
            self.ok("sae", "decode", sae, "--in", acts, "--out", out)
            self.assertLess(max_difference(read_safetensors(out)["sae_out"][1], expected["decode"][1]), 1e-4)
            self.ok("sae", "forward", sae, "--in", x, "--out", out)
            forward = read_safetensors(out)
            self.assertLess(max_difference(forward["sae_out"][1], expected["forward"][1]), 1e-4)
            self.assertLess(max_difference(forward["feature_acts"][1], expected["encode"][1]), 1e-4)

    def test_a_model_without_tokenizer_says_so_for_text(self):
        self.ok("model", "add", "ids-only", GOLDEN / "lm" / "gpt2")
        self.refused("tokenize", "--model", "ids-only", "--text", "x", saying="no tokenizer")
        self.ok("generate", "--model", "ids-only", "--tokens", "1,2,3", "--max-tokens", 3)


class DemoModelTest(ServerTest):
    """Texts, training, indexing, features and steering on a real model."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        run = cls.server.json
        run("model", "add", "demo-lm", DEMO)
        run("corpus", "add", "small", demo_corpus(cls.dir, 150))
        cls.trained = run("train", "--id", "sae", "--model", "demo-lm", "--corpus", "small", "--hook", HOOK,
                          "--architecture", "topk", "--tokens", 20000, *QUICK, "--wait")
        cls.indexed = run("index", "--sae", "sae", "--corpus", "small", "--tokens", 20000, "--wait")

    def test_tokenize_gives_the_expected_ids(self):
        expected = json.loads((DEMO / "expected.json").read_text())[0]
        ids = [t["id"] for t in self.server.json("tokenize", "--model", "demo-lm", "--text",
                                                 expected["text"])["tokens"]]
        self.assertEqual(ids, expected["ids"])
        without = self.server.json("tokenize", "--model", "demo-lm", "--text", expected["text"], "--no-bos")
        self.assertEqual([t["id"] for t in without["tokens"]], expected["ids"][1:])

    def test_greedy_generation_gives_the_expected_tokens(self):
        expected = json.loads((DEMO / "expected.json").read_text())[0]
        events = self.server.json("generate", "--model", "demo-lm", "--prompt", expected["text"],
                                  "--max-tokens", 24)
        ids = [e["token"]["token"]["id"] for e in events if "token" in e]
        self.assertEqual(ids, expected["greedy_24"])

    def test_the_jobs_left_a_trained_and_indexed_sae(self):
        self.assertEqual(self.trained[-1]["state"], "SUCCEEDED")
        self.assertTrue(any("metrics" in line for line in self.trained), "no metrics while training")
        self.assertEqual(self.indexed[-1]["state"], "SUCCEEDED")
        sae = self.server.json("sae", "show", "sae")
        self.assertEqual((sae["d_sae"], sae["k"], sae["indexed_corpora"]), (256, 8, ["small"]))
        files = sorted(p.name for p in (self.dir / "data" / "saes" / "sae").iterdir())
        self.assertIn("cfg.json", files)
        self.assertIn("sae_weights.safetensors", files)

    def test_feature_pages_cover_every_feature_once(self):
        seen, token = [], ""
        while True:
            words = ["feature", "list", "--sae", "sae", "--sort", "density", "--limit", 100, "--dead"]
            page = self.server.json(*words, *(["--page-token", token] if token else []))
            seen += [f["feature"] for f in page["features"]]
            densities = [f["density"] for f in page["features"]]
            self.assertEqual(densities, sorted(densities, reverse=True))
            token = page["next_page_token"]
            if not token:
                break
        self.assertEqual(sorted(seen), list(range(256)))

    def strongest(self) -> dict:
        return self.server.json("feature", "list", "--sae", "sae", "--sort", "max", "--limit", 1)["features"][0]

    def test_examples_hold_what_live_activations_say(self):
        feature = self.strongest()
        top = self.server.json("feature", "examples", feature["feature"], "--sae", "sae", "--window", 0)
        best = top["examples"][0]
        self.assertAlmostEqual(best["activation"], feature["max"], places=4)
        self.assertAlmostEqual(max(best["acts"]), feature["max"], places=4)
        # The window begins the context, so that the text alone gives the same activations.
        if best["window_start"] == 0:
            ids = ",".join(str(t["id"]) for t in best["tokens"])
            live = self.server.json("activations", "--sae", "sae", "--tokens", ids, "--feature",
                                    feature["feature"])["texts"][0]["saes"][0]["acts"]
            self.assertAlmostEqual(max(live["values"]), feature["max"], delta=1e-3 * feature["max"])

    def test_every_view_of_a_feature_prints(self):
        feature = self.strongest()["feature"]
        self.assertIn("promotes", self.ok("feature", "show", feature, "--sae", "sae"))
        self.assertIn("activation", self.ok("feature", "examples", feature, "--sae", "sae", "--bands"))
        self.assertIn("feature", self.ok("feature", "list", "--sae", "sae"))
        self.assertIn("L0", self.ok("activations", "--sae", "sae", "--text", "The ship sailed.", "--top-k", 3))
        tour = self.ok("tour", "--sae", "sae", "--features", 2)
        for part in ("SAELens", "explained variance", "Steering"):
            self.assertIn(part, tour)
        self.assertIn("threads", self.ok("server", "info"))
        self.assertIn("succeeded", self.ok("job", "list"))

    def test_steering_proves_its_edits_and_leaves_the_baseline_alone(self):
        feature = self.strongest()
        prompt = ["--model", "demo-lm", "--prompt", "The captain said", "--max-tokens", 8]
        plain = [e["token"]["token"]["id"] for e in self.server.json("generate", *prompt) if "token" in e]
        events = self.server.json("generate", *prompt, "--steer", f"sae:{feature['feature']}:set:2:feature_max",
                                  "--baseline")
        baseline = [e["token"]["token"]["id"] for e in events
                    if e.get("token", {}).get("branch") == "BASELINE"]
        self.assertEqual(baseline, plain)
        finished = [e["finished"] for e in events if "finished" in e]
        (proof,) = next(f["proofs"] for f in finished if f["branch"] == "STEERED")
        self.assertEqual(proof["feature"], feature["feature"])
        self.assertNotIn(0, proof["positions"], "BOS was edited")
        self.assertTrue(all(change > 0 for change in proof["relative_change"]))
        for after in proof["activation_after"]:
            self.assertAlmostEqual(after, 2 * feature["max"], delta=0.35 * feature["max"])

    def test_the_same_seed_gives_the_same_text(self):
        words = ["generate", "--model", "demo-lm", "--prompt", "It was", "--temperature", 1, "--max-tokens", 12]
        first, again = self.ok(*words, "--seed", 5), self.ok(*words, "--seed", 5)
        self.assertEqual(first, again)
        self.assertNotEqual(first, self.ok(*words, "--seed", 6))

    def test_submitting_twice_with_one_key_makes_one_job(self):
        words = ["index", "--sae", "sae", "--corpus", "small", "--tokens", 2000, "--idempotency-key", "once"]
        first, again = self.server.json(*words), self.server.json(*words)
        self.assertEqual(first["id"], again["id"])
        self.ok("job", "watch", first["id"])
        self.refused("index", "--sae", "sae", "--corpus", "small", "--tokens", 3000, "--idempotency-key", "once",
                     saying="key")

    def test_wrong_use_is_refused_with_a_reason_and_the_server_goes_on(self):
        cases = [
            (["model", "show", "nope"], 'no model "nope"'),
            (["sae", "show", "nope"], "nope"),
            (["activations", "--sae", "nope", "--text", "x"], "nope"),
            (["activations", "--sae", "sae", "--text", ""], "empty"),
            (["activations", "--sae", "sae", "--text", "word " * 2000], "tokens"),
            (["activations", "--sae", "sae", "--text", "x", "--feature", 70000], "70000 is out of range [0, 256)"),
            (["activations", "--sae", "sae", "--tokens", "1,99999"], "token id 99999 at position 1 is out of range [0, 8192)"),
            (["feature", "show", 256, "--sae", "sae"], "256 is out of range [0, 256)"),
            (["feature", "list", "--sae", "sae", "--page-token", "garbage"], "page token"),
            (["capture", "--model", "demo-lm", "--text", "x", "--hooks", "blocks.77.hook_mlp_out", "--out",
              self.dir / "never"], "blocks.77"),
            (["capture", "--model", "demo-lm", "--text", "x", "--hooks", "nonsense", "--out", self.dir / "never"],
             "not a hook point"),
            (["generate", "--model", "demo-lm", "--prompt", "x", "--steer", "sae:1"], "SAE:FEATURE:OP"),
            (["generate", "--model", "demo-lm", "--prompt", "x", "--steer", "sae:999:add:1"], "999"),
            (["generate", "--model", "demo-lm", "--prompt", "x", "--steer", "sae:1:add:nan"], "nan"),
            (["generate", "--model", "demo-lm", "--prompt", "x", "--temperature", "-1"], "temperature"),
            (["train", "--id", "new", "--model", "demo-lm", "--corpus", "small", "--hook", HOOK,
              "--architecture", "topk", "--d-sae", 16, "--k", 17, "--tokens", 1000], "k "),
            (["train", "--id", "new", "--model", "demo-lm", "--corpus", "small", "--hook", "blocks.9.hook_mlp_out",
              "--architecture", "topk", "--d-sae", 16, "--k", 2, "--tokens", 1000], "blocks.9"),
            (["train", "--id", "sae", "--model", "demo-lm", "--corpus", "small", "--hook", HOOK,
              "--architecture", "topk", "--d-sae", 16, "--k", 2, "--tokens", 1000], "sae"),
            (["train", "--id", "new", "--model", "demo-lm", "--corpus", "small", "--hook", HOOK,
              "--architecture", "magic", "--d-sae", 16, "--k", 2, "--tokens", 1000], "magic"),
            (["corpus", "add", "none", self.dir / "missing.txt"], "missing.txt"),
            (["model", "add", "Bad Id", DEMO], "Bad Id"),
            (["model", "add", "none", self.dir], "config.json"),
            (["job", "show", "nope"], "nope"),
            (["no", "such"], "unknown command"),
            (["tokenize", "--model", "demo-lm"], "missing --text"),
        ]
        for words, saying in cases:
            with self.subTest(" ".join(map(str, words))[:60]):
                self.refused(*words, saying=saying)
        self.assert_serving()

    def test_bad_files_are_refused_by_name(self):
        bad = self.dir / "bad"
        bad.mkdir()
        (bad / "binary.txt").write_bytes(bytes(range(256)) * 4)
        (bad / "broken.jsonl").write_text('{"text": "fine"}\n{"text": \n')
        self.refused("corpus", "add", "bad", bad / "binary.txt", saying="binary.txt")
        self.refused("corpus", "add", "bad", bad / "broken.jsonl", saying="broken.jsonl:2")
        model = bad / "model"
        shutil.copytree(GOLDEN / "lm" / "gpt2", model)
        weights = (model / "model.safetensors").read_bytes()
        for name, content in (("truncated", weights[:-100]), ("lying", b"\xff" * 8 + weights[8:]),
                              ("empty", b"")):
            (model / "model.safetensors").write_bytes(content)
            with self.subTest(name):
                self.refused("model", "add", "bad", model, saying="model.safetensors")
        (model / "config.json").write_text('{"model_type": "gpt2", ')
        self.refused("model", "add", "bad", model, saying="config.json")
        self.assert_serving()

    def test_a_damaged_index_is_named_and_the_server_goes_on(self):
        self.ok("corpus", "add", "tiny", demo_corpus(self.dir, 5))
        self.ok("index", "--sae", "sae", "--corpus", "tiny", "--wait")
        path = self.dir / "data" / "index" / "sae@tiny.db"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:5000] + b"\0" * 3000 + content[8000:len(content) // 2])
        self.refused("feature", "list", "--sae", "sae", "--corpus", "tiny", saying="sae@tiny.db")
        self.ok("feature", "list", "--sae", "sae", "--corpus", "small")
        self.ok("corpus", "delete", "tiny")
        self.assert_serving()

    def test_what_is_needed_cannot_be_deleted(self):
        self.refused("model", "delete", "demo-lm", saying="sae")

    def test_metrics_and_health_are_served(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.http_port}/metrics") as answer:
            text = answer.read().decode()
        self.assertIn('featurescope_rpc_finished_total{method="Catalog.AddModel",code="OK"}', text)
        self.assertIn("featurescope_background_quanta_total", text)


class JobsUnderFireTest(ServerTest):
    """Kills, stops and company for a running job."""

    ON = ["--model", "demo-lm", "--corpus", "small", "--hook", HOOK, "--architecture", "topk",
          *QUICK]
    TRAIN = [*ON, "--tokens", 60000]
    ENDLESS = [*ON, "--tokens", 500_000_000_000]  # ends by being cancelled

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.json("model", "add", "demo-lm", DEMO)
        cls.server.json("corpus", "add", "small", demo_corpus(cls.dir, 150))

    def progress(self, job_id: str) -> float:
        return self.server.json("job", "show", job_id)["progress"]

    def test_kill_9_in_the_middle_gives_the_same_sae_and_index_as_without(self):
        self.ok("train", "--id", "whole", *self.TRAIN, "--wait")
        job = self.server.json("train", "--id", "killed", *self.TRAIN)["id"]
        for share in (0.2, 0.5):
            wait_for(lambda: self.progress(job) > share, what=f"training progress {share}")
            self.server.kill()
            self.server.start()
            killed_at_work = self.server.json("job", "show", job)["progress"] < 1
        self.ok("job", "watch", job)
        if killed_at_work:
            self.assertGreater(self.server.json("job", "show", job)["attempt"], 1)
        weights = [(self.dir / "data" / "saes" / name / "sae_weights.safetensors").read_bytes()
                   for name in ("whole", "killed")]
        self.assertEqual(weights[0], weights[1])

        self.ok("index", "--sae", "whole", "--corpus", "small", "--wait")
        job = self.server.json("index", "--sae", "killed", "--corpus", "small")["id"]
        wait_for(lambda: self.progress(job) > 0.3, what="indexing progress")
        self.server.kill()
        self.server.start()
        self.ok("job", "watch", job)
        for listing in (["feature", "list", "--limit", 256, "--dead", "--sort", "feature"],
                        ["feature", "examples", 7], ["feature", "examples", 7, "--bands"], ["feature", "show", 7]):
            self.assertEqual(self.server.json(*listing, "--sae", "whole"),
                             self.server.json(*listing, "--sae", "killed"))

    def test_sigterm_checkpoints_and_the_next_server_finishes_the_job(self):
        job = self.server.json("train", "--id", "stopped", *self.TRAIN)["id"]
        wait_for(lambda: self.progress(job) > 0.2, what="training progress")
        before = self.progress(job)
        self.assertEqual(self.server.terminate(), 0)
        self.server.start()
        wait_for(lambda: self.server.json("job", "show", job)["state"] in ("RUNNING", "SUCCEEDED"),
                 what="running again")
        self.assertGreaterEqual(self.progress(job) + 0.05, before)
        self.ok("job", "watch", job)

    def test_a_cancelled_job_stops_soon_and_leaves_no_sae(self):
        job = self.server.json("train", "--id", "cancelled", *self.ENDLESS)["id"]
        wait_for(lambda: self.progress(job) > 0, what="training progress")
        self.ok("job", "cancel", job)
        wait_for(lambda: self.server.json("job", "show", job)["state"] == "CANCELLED", what="cancelled")
        self.refused("sae", "show", "cancelled", saying="cancelled")
        self.refused("job", "cancel", job, saying="finished")

    def test_requests_are_answered_while_a_job_runs(self):
        self.ok("train", "--id", "company", *self.TRAIN, "--wait")
        job = self.server.json("train", "--id", "busy", *self.ENDLESS)["id"]
        wait_for(lambda: self.progress(job) > 0, what="training progress")
        for _ in range(5):
            self.ok("activations", "--sae", "company", "--text", "The ship sailed at dawn.")
        self.assertEqual(self.server.json("job", "show", job)["state"], "RUNNING")
        self.ok("job", "cancel", job)

    def test_a_client_that_goes_away_frees_the_device(self):
        client = self.server.spawn("generate", "--model", "demo-lm", "--prompt", "Once", "--max-tokens", 200,
                                   "--temperature", 1)
        client.stdout.read(1)
        client.send_signal(signal.SIGKILL)
        client.communicate()

        def generating() -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.http_port}/metrics") as answer:
                text = answer.read().decode()
            return 'featurescope_rpc_in_flight{method="Explore.Generate"} 0' in text

        wait_for(generating, what="the end of the abandoned call")

    def test_sigterm_lets_a_running_generation_end(self):
        client = self.server.spawn("generate", "--model", "demo-lm", "--prompt", "Once", "--max-tokens", 200)
        client.stdout.read(6)
        code = self.server.terminate()
        out, err = client.communicate(timeout=60)
        self.server.start()
        self.assertEqual((client.returncode, code), (0, 0), err)
        self.assertGreater(len(out), 200)

    def test_many_clients_at_once_all_get_answers(self):
        results = []

        def ask(i: int):
            done = self.server.run("generate", "--model", "demo-lm", "--prompt", f"Number {i}", "--max-tokens", 5)
            results.append(done.returncode)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(results, [0] * 12)


class DataDirectoryTest(unittest.TestCase):
    def test_a_second_server_on_the_same_data_is_refused(self):
        directory = pathlib.Path(temporary_directory())
        first = Server(ServerTest.bin_dir, str(directory / "data"))
        try:
            with self.assertRaisesRegex(RuntimeError, "another server|in use|locked"):
                Server(ServerTest.bin_dir, str(directory / "data"))
        finally:
            self.assertEqual(first.terminate(), 0)
            shutil.rmtree(directory)


class StartTest(unittest.TestCase):
    """A server that cannot start says why in one line and ends."""

    def setUp(self):
        self.dir = pathlib.Path(temporary_directory())
        self.addCleanup(shutil.rmtree, self.dir)
        self.data = ["--data_dir", self.dir / "data"]

    def refused(self, *words, saying: str):
        done = subprocess.run([ServerTest.bin_dir / "server" / "featurescope-server", *map(str, words)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        self.assertGreater(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, "")
        errors = [line for line in done.stderr.splitlines() if not line.startswith(("I ", "W "))]
        self.assertEqual(len(errors), 1, done.stderr)
        self.assertIn(saying, errors[0])

    def file(self, name: str, content: str) -> pathlib.Path:
        (self.dir / name).write_text(content)
        return self.dir / name

    def test_wrong_flags_are_named(self):
        self.refused(saying="--data_dir is missing")
        self.refused(*self.data, "--nonsense=1", saying="nonsense")
        self.refused(*self.data, "--threads=many", saying="threads")
        self.refused(*self.data, "--threads=-1", saying="threads is -1")
        self.refused(*self.data, "--memory_budget_mb=99999999999999999", saying="memory_budget_mb")
        self.refused(*self.data, "--drain=-5s", saying="drain is -5s")
        self.refused(*self.data, "stray", saying='"stray"')
        self.refused(*self.data, "--device=tpu", saying="tpu")

    def test_wrong_configuration_files_are_named_with_the_place(self):
        self.refused(*self.data, "--config", self.dir / "none.cfg", saying="none.cfg: No such file")
        unknown = self.file("unknown.cfg", 'data_dir: "d"\nnonsense: 3\n')
        self.refused("--config", unknown, saying="unknown.cfg:2:")
        large = self.file("large.cfg", "threads: 99999999999\n")
        self.refused(*self.data, "--config", large, saying="large.cfg:1:")
        many = self.file("many.cfg", "threads: 4294967295\n")
        self.refused(*self.data, "--config", many, saying="threads is 4294967295")

    def test_a_port_in_use_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            self.refused(*self.data, "--listen", address, "--http", "none",
                         saying=f"cannot listen on {address}: Address already in use")
            self.refused(*self.data, "--listen", "127.0.0.1:0", "--http", address,
                         saying=f"cannot serve HTTP on {address}: Address already in use")

    def test_a_data_directory_that_cannot_be_is_named(self):
        file = self.file("file", "")
        for data in (file, file / "data", pathlib.Path("/proc/nowhere")):
            self.refused("--data_dir", data, "--listen", "127.0.0.1:0", "--http", "none", saying=str(data)[:12])


if __name__ == "__main__":
    run_tests(sys.modules[__name__])
