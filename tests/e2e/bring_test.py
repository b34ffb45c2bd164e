"""What users bring, from the command line against a real server: SAEs of every format, checks, exports, corpora of
every kind, pulls from a hub, conversations; and paths that lead where they must not.

usage: bring_test.py --bin BUILD_DIR [-k PATTERN]
"""

import csv
import gzip
import json
import pathlib
import random
import shutil
import struct
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from fake_hub import COMMIT, FakeHub
from harness import (DEMO, GOLDEN, Server, ServerTest, demo_corpus, max_difference, read_safetensors, run_tests,
                     temporary_directory, wait_for, write_safetensors)

HOOK = "blocks.3.hook_resid_post"
NEXT_HOOK = "blocks.4.hook_resid_pre"
SAES = GOLDEN / "sae"


def stored_zstd(content: bytes) -> bytes:
    """A zstd frame of stored blocks: what every decoder reads, without a compressor."""
    frame = struct.pack("<IBI", 0xFD2FB528, 0b1010_0000, len(content))
    pieces = [content[i:i + 60_000] for i in range(0, len(content), 60_000)] or [b""]
    for i, piece in enumerate(pieces):
        frame += struct.pack("<I", (i + 1 == len(pieces)) | len(piece) << 3)[:3] + piece
    return frame


def changed_weights(files: dict[str, bytes], prefix: str, seed: int) -> dict[str, bytes]:
    """The files without the prefix, their weights of another content, so that no cache has them."""
    files = {path.removeprefix(prefix): content for path, content in files.items()}
    weights = bytearray(files["model.safetensors"])
    weights[-4:] = struct.pack("<f", 0.001 * seed)
    return {**files, "model.safetensors": bytes(weights)}


class SaeFormatTest(ServerTest):
    """Every format is recognised by its content, and computes what its own framework computed."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.json("model", "add", "host", GOLDEN / "lm" / "gpt2")

    def encoded_as_expected(self, sae: str, directory: pathlib.Path):
        expected = read_safetensors(directory / "expected.safetensors")
        x, out = self.dir / "x.safetensors", self.dir / "out.safetensors"
        shape, values = expected["x"]
        write_safetensors(x, {"x": (shape, values)})
        self.ok("sae", "forward", sae, "--in", x, "--out", out)
        got = read_safetensors(out)
        # Where a file is read in one of two ways, the fixture has both; sparsify's forward() of
        # multi_topk is that of another k.
        way = "b_dec_subtracted." if "b_dec_subtracted.encode" in expected else ""
        decoded = "decode" if "multi" in sae else "forward"
        for name, reference in (("feature_acts", "encode"), ("sae_out", decoded)):
            self.assertLess(max_difference(got[name][1], expected[way + reference][1]), 1e-4, f"{sae}: {name}")

    def test_every_fixture_is_recognised_and_agrees_with_its_framework(self):
        formats = {
            "saelens": "SAELens",
            "dictionary_learning": "dictionary_learning",
            "gemma_scope": "Gemma Scope",
            "openai": "OpenAI",
            "sparsify": "sparsify",
            "seed": "state_dict",
        }
        fixtures = [path for path in sorted(SAES.rglob("expected.safetensors"))]
        self.assertGreater(len(fixtures), 40)
        for path in fixtures:
            directory = path.parent
            framework = directory.relative_to(SAES).parts[0]
            sae = str(directory.relative_to(SAES)).lower().replace("/", "-")
            with self.subTest(sae):
                options = ["--model", "host", "--any-width"]
                added = self.server.json("sae", "add", sae, directory, *options)
                self.assertTrue(added["format"].startswith(formats[framework]), added["format"])
                self.encoded_as_expected(sae, directory)

    def test_what_was_recognised_is_printed(self):
        text = self.ok("sae", "add", "printed", SAES / "saelens" / "v6_topk", "--model", "host", "--any-width")
        for part in ("SAELens 6", "topk", "largest of a token", "float32", "normalisation", "BOS", "context"):
            self.assertIn(part, text)
        self.assertIn("vectors only", text)
        shown = self.ok("sae", "show", "printed")
        self.assertIn(str(SAES / "saelens" / "v6_topk"), shown)

    def test_what_the_files_do_not_say_is_asked_for_by_flag(self):
        bare = SAES / "openai" / "relu"
        self.refused("sae", "add", "asked", bare, saying="--model")
        self.refused("sae", "add", "asked", bare, "--model", "host", saying="--hook")
        self.refused("sae", "add", "asked", bare, "--model", "host", "--hook", "blocks.1.hook_resid_post",
                     saying="--any-width")
        deep = SAES / "seed" / "format1"  # says layer 3
        self.refused("sae", "add", "asked", deep, "--model", "host", saying="--hook")

    def test_settings_in_place_of_the_files_last(self):
        directory = SAES / "saelens" / "v6_standard"
        plain = ["sae", "add", "plain", directory, "--model", "host", "--any-width"]
        self.ok(*plain)
        changed = self.server.json("sae", "add", "changed", directory, "--model", "host", "--any-width",
                                   "--norm-scaling-factor", 0.5, "--no-apply-b-dec-to-input")
        self.assertFalse(changed["apply_b_dec_to_input"])
        self.assertTrue(changed["folds"])
        x, a, b = (self.dir / f"{n}.safetensors" for n in ("x", "a", "b"))
        write_safetensors(x, {"x": read_safetensors(directory / "expected.safetensors")["x"]})
        self.ok("sae", "encode", "changed", "--in", x, "--out", a)
        before = list(read_safetensors(a)["feature_acts"][1])
        self.assertEqual(self.server.terminate(), 0)
        self.server.start()
        self.ok("sae", "encode", "changed", "--in", x, "--out", a)
        self.assertEqual(list(read_safetensors(a)["feature_acts"][1]), before)
        self.ok("sae", "encode", "plain", "--in", x, "--out", b)
        self.assertGreater(max_difference(read_safetensors(b)["feature_acts"][1], before), 1e-3)
        self.refused("sae", "add", "changed", directory, "--model", "host", "--any-width", saying="other content")
        self.ok(*plain)  # the same again is no error

    def test_exports_come_back_bit_for_bit(self):
        for name, formats in (("saelens/v6_topk", ["saelens", "dictionary_learning"]),
                              ("saelens/v6_gated", ["saelens"]), ("gemma_scope/gemma_scope", ["saelens"]),
                              ("dictionary_learning/AutoEncoder", ["saelens", "dictionary_learning"]),
                              ("dictionary_learning/GatedAutoEncoder", ["dictionary_learning"])):
            sae = "out-" + name.lower().replace("/", "-").replace("_", "-")
            self.ok("sae", "add", sae, SAES / name, "--model", "host", "--any-width")
            x = self.dir / "x.safetensors"
            write_safetensors(x, {"x": read_safetensors(SAES / name / "expected.safetensors")["x"]})
            for form in formats:
                with self.subTest(f"{name} as {form}"):
                    out = self.dir / f"{sae}-{form}"
                    written = self.server.json("sae", "export", sae, "--format", form, "--out", out)
                    self.assertEqual(sorted(p.name for p in out.iterdir()), written["files"])
                    again = f"{sae}-{form.replace('_', '-')}"
                    self.ok("sae", "add", again, out, "--model", "host", "--any-width")
                    results = []
                    for which in (sae, again):
                        self.ok("sae", "forward", which, "--in", x, "--out", self.dir / "f.safetensors")
                        results.append({n: bytes(v) for n, (_, v) in
                                        read_safetensors(self.dir / "f.safetensors").items()})
                    self.assertEqual(results[0], results[1])

    def test_an_export_never_overwrites(self):
        self.ok("sae", "add", "kept", SAES / "saelens" / "v6_topk", "--model", "host", "--any-width")
        full = self.dir / "full"
        full.mkdir()
        (full / "mine.txt").write_text("mine")
        self.refused("sae", "export", "kept", "--out", full, saying="no empty directory")
        self.refused("sae", "export", "kept", "--out", full / "mine.txt", saying="no empty directory")
        self.refused("sae", "export", "kept", "--out", self.dir / "data" / "saes" / "x", saying="data directory")
        self.refused("sae", "export", "kept", "--format", "keras", "--out", self.dir / "x", saying="keras")
        self.assertEqual([p.name for p in full.iterdir()], ["mine.txt"])

    def test_hostile_files_are_refused_by_name(self):
        bad = self.dir / "bad"
        shutil.copytree(SAES / "dictionary_learning" / "AutoEncoder", bad)
        weights = (bad / "ae.pt").read_bytes()
        for name, content in (("cut", weights[:-50]), ("noise", bytes(random.Random(1).randbytes(2000))), ("empty", b""),
                              ("pickle", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")):
            with self.subTest(name):
                (bad / "ae.pt").write_bytes(content)
                self.refused("sae", "add", "bad", bad, "--model", "host", "--any-width", saying="ae.pt")
        self.assert_serving()


class CheckTest(ServerTest):
    """Whether an SAE fits, on the real model."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        run = cls.server.json
        run("model", "add", "demo-lm", DEMO)
        run("corpus", "add", "small", demo_corpus(cls.dir, 300))
        run("train", "--id", "sae", "--model", "demo-lm", "--corpus", "small", "--hook", HOOK, "--architecture", "topk",
            "--d-sae", 1024, "--k", 24, "--batch-size", 512, "--lr", "1e-3", "--seed", 3, "--tokens", 120000, "--wait")
        cls.exported = cls.dir / "exported"
        run("sae", "export", "sae", "--out", cls.exported)

    def check(self, sae: str, *words) -> dict:
        done = self.server.run("sae", "check", sae, *words, "--json")
        self.assertTrue(done.stdout, done.stderr)
        return json.loads(done.stdout)

    def test_an_sae_where_it_was_trained_does_fit(self):
        for words in ([], ["--corpus", "small"], ["--text", "The ship sailed at dawn, and the captain said no word. " * 6]):
            with self.subTest(str(words)):
                found = self.check("sae", *words)
                self.assertNotEqual(found["verdict"], "DOES_NOT_FIT", found)
                self.assertFalse([f for f in found["better"] if "--hook" in f["change"]], found)
        self.assertIn("explained variance", self.ok("sae", "check", "sae", "--corpus", "small"))

    def test_the_wrong_layer_is_found_and_the_right_one_named(self):
        self.ok("sae", "add", "wrong-layer", self.exported, "--model", "demo-lm", "--hook", "blocks.0.hook_resid_pre")
        found = self.check("wrong-layer", "--corpus", "small")
        self.assertEqual(found["verdict"], "DOES_NOT_FIT", found)
        # What leaves a block is what enters the next one.
        named = [f"--hook {hook}" in finding for finding in found["findings"] for hook in (HOOK, NEXT_HOOK)]
        self.assertTrue(any(named), found)
        done = self.server.run("sae", "check", "wrong-layer", "--corpus", "small")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("does not fit", done.stdout)

    def test_a_foreign_sae_is_told_to_be_one(self):
        directory = self.dir / "foreign"
        directory.mkdir()
        (directory / "cfg.json").write_text(json.dumps({
            "architecture": "topk", "d_in": 256, "d_sae": 512, "k": 16, "apply_b_dec_to_input": True,
            "normalize_activations": "none", "metadata": {"sae_lens_version": "6.18.0", "model_name": "pythia-70m",
                                                          "hook_name": HOOK}}))
        rng = random.Random(5)
        write_safetensors(directory / "sae_weights.safetensors", {
            name: (shape, [rng.gauss(0, 0.3) for _ in range(shape[0] * (shape[1] if len(shape) > 1 else 1))])
            for name, shape in (("W_enc", [256, 512]), ("b_enc", [512]), ("W_dec", [512, 256]), ("b_dec", [256]))})
        self.refused("sae", "add", "foreign", directory, saying="pythia-70m")
        added = self.server.json("sae", "add", "foreign", directory, "--model", "demo-lm")
        self.assertTrue(any("pythia-70m" in warning for warning in added["warnings"]), added["warnings"])
        found = self.check("foreign")
        self.assertEqual(found["verdict"], "DOES_NOT_FIT")
        self.assertTrue(any("pythia-70m" in finding for finding in found["findings"]), found["findings"])

    def test_centring_is_part_of_the_binding(self):
        self.ok("sae", "add", "centred", self.exported, "--model", "demo-lm", "--center-writing-weights")
        self.assertTrue(self.server.json("sae", "show", "centred")["center_writing_weights"])
        text = ["--text", "The ship sailed at dawn."]
        acts = [self.server.json("activations", "--sae", sae, *text)["texts"][0]["saes"][0]["acts"]
                for sae in ("sae", "centred")]
        self.assertNotEqual(acts[0]["values"], acts[1]["values"])
        self.ok("index", "--sae", "centred", "--corpus", "small", "--tokens", 2000, "--wait")
        self.ok("index", "--sae", "sae", "--corpus", "small", "--tokens", 2000, "--wait")
        l0 = [self.server.json("feature", "list", "--sae", sae, "--limit", 5)["features"] for sae in ("sae", "centred")]
        self.assertNotEqual(l0[0], l0[1])

    def test_there_must_be_something_to_check(self):
        self.refused("sae", "check", "sae", "--text", "x", saying="tokens")
        self.refused("sae", "check", "none", saying="none")


class CorpusFormatTest(ServerTest):
    """The same documents in every format give the same tokens."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.json("model", "add", "demo-lm", DEMO)
        cls.documents = [json.loads(line)["text"] for line in
                         demo_corpus(cls.dir, 60).read_text(encoding="utf-8").splitlines()]

    def write_all(self) -> dict:
        files = {}
        files["jsonl"] = self.dir / "docs.jsonl"
        files["jsonl"].write_text("".join(json.dumps({"text": d}) + "\n" for d in self.documents))
        files["csv.gz"] = self.dir / "docs.csv.gz"
        with gzip.open(files["csv.gz"], "wt", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(["id", "body"])
            writer.writerows([i, d] for i, d in enumerate(self.documents))
        files["jsonl.zst"] = self.dir / "docs.jsonl.zst"
        files["jsonl.zst"].write_bytes(stored_zstd(files["jsonl"].read_bytes()))
        files["tsv"] = self.dir / "docs.tsv"
        with open(files["tsv"], "w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, delimiter="\t")
            writer.writerow(["body"])
            writer.writerows([d] for d in self.documents)
        files["directory"] = self.dir / "docs"
        files["directory"].mkdir()
        for i, document in enumerate(self.documents):
            (files["directory"] / f"{i:03d}.txt").write_text(document, encoding="utf-8")
        (files["directory"] / "README.md").write_text("no document")
        return files

    def test_formats_agree_and_are_named(self):
        files = self.write_all()
        added = {"jsonl": self.server.json("corpus", "add", "jsonl", files["jsonl"]),
                 "csv.gz": self.server.json("corpus", "add", "csv", files["csv.gz"], "--field", "body"),
                 "jsonl.zst": self.server.json("corpus", "add", "zst", files["jsonl.zst"]),
                 "tsv": self.server.json("corpus", "add", "tsv", files["tsv"], "--field", "body"),
                 "text": self.server.json("corpus", "add", "dir", files["directory"])}
        for name, corpus in added.items():
            self.assertEqual(corpus["formats"], [name])
            self.assertEqual(corpus["hash"], added["jsonl"]["hash"], name)
            self.assertEqual(corpus["n_documents"], "60", name)
        self.refused("corpus", "add", "csv2", files["csv.gz"], saying="body")
        self.assertIn("README.md", self.ok("corpus", "add", "dir", files["directory"]))

    def test_settings_of_a_corpus_change_its_tokens(self):
        text = self.dir / "two.txt"
        text.write_text("One document.<|endoftext|>Another document.")
        whole = self.server.json("corpus", "add", "whole", text)
        cut = self.server.json("corpus", "add", "cut-by-separator", text, "--separator", "<|endoftext|>")
        self.assertEqual((whole["n_documents"], cut["n_documents"]), ("1", "2"))
        bare = self.server.json("corpus", "add", "bare", text, "--separator", "<|endoftext|>", "--no-bos")
        self.assertLess(int(bare["n_tokens"]), int(cut["n_tokens"]))
        ended = self.server.json("corpus", "add", "ended", text, "--separator", "<|endoftext|>", "--append-eos")
        self.assertGreater(int(ended["n_tokens"]), int(cut["n_tokens"]))
        table = self.dir / "quotes.csv"
        table.write_text('text\n"quoted, and one"\n')
        quoted = self.server.json("corpus", "add", "quoted", table)
        table.write_text('text\n"open quote\nand another line\n')
        self.refused("corpus", "add", "unquoted", table, saying="quotes.csv")
        self.assertEqual(self.server.json("corpus", "add", "unquoted", table, "--no-csv-quotes")["n_documents"], "2")
        self.assertEqual(quoted["n_documents"], "1")
        odd = self.dir / "documents.data"
        odd.write_text('{"text": "a"}\n')
        self.refused("corpus", "add", "odd", odd, saying="format")
        self.assertEqual(self.server.json("corpus", "add", "odd", odd, "--format", "jsonl")["formats"], ["jsonl"])

    def test_damaged_archives_are_named(self):
        lines = "".join(json.dumps({"text": d}) + "\n" for d in self.documents).encode()
        for name, content in (("cut.jsonl.gz", gzip.compress(lines)[:-500]), ("noise.jsonl.gz", b"\x1f\x8b" + bytes(200)),
                              ("cut.jsonl.zst", stored_zstd(lines)[:-500]), ("text.jsonl.zst", lines)):
            with self.subTest(name):
                (self.dir / name).write_bytes(content)
                self.refused("corpus", "add", "damaged", self.dir / name, saying=name)
        self.refused("corpus", "show", "damaged", saying="unknown command")
        self.assertNotIn("damaged", self.ok("corpus", "list"))

    def test_layouts_and_held_out_documents(self):
        path = self.dir / "layouts.jsonl"
        path.write_text("".join(json.dumps({"text": d}) + "\n" for d in self.documents))
        split = self.server.json("corpus", "add", "split", path, "--layout", "split", "--context-size", 64)
        self.assertEqual(split["layout"], "split")
        cut = self.server.json("corpus", "add", "cut", path, "--layout", "truncated", "--context-size", 16)
        self.assertEqual(cut["n_contexts"], cut["n_documents"])
        held = self.server.json("corpus", "add", "held", path, "--heldout", 0.3)
        self.assertGreater(int(held["n_heldout_contexts"]), 0)
        self.assertLess(int(held["n_heldout_tokens"]), int(held["n_tokens"]) // 2)
        self.refused("corpus", "add", "no", path, "--heldout", 0.9, saying="heldout_fraction")
        self.refused("corpus", "add", "no", path, "--layout", "diagonal", saying="diagonal")
        for corpus in ("split", "cut", "held"):
            self.ok("train", "--id", f"on-{corpus}", "--model", "demo-lm", "--corpus", corpus, "--hook", HOOK,
                    "--architecture", "topk", "--d-sae", 64, "--k", 4, "--batch-size", 128, "--tokens", 600, "--wait")
            self.ok("index", "--sae", f"on-{corpus}", "--corpus", corpus, "--wait")
            feature = self.server.json("feature", "list", "--sae", f"on-{corpus}", "--sort", "max", "--limit", 1)
            best = feature["features"][0]
            top = self.server.json("feature", "examples", best["feature"], "--sae", f"on-{corpus}", "--window", 0)
            self.assertAlmostEqual(max(top["examples"][0]["acts"]), best["max"], places=4, msg=corpus)

    def test_adding_the_same_again_changes_nothing(self):
        path = demo_corpus(self.dir, 20)
        first = self.server.json("corpus", "add", "again", path)
        self.assertEqual(self.server.json("corpus", "add", "again", path), first)
        self.refused("corpus", "add", "again", demo_corpus(self.dir, 21), saying="other content")


class PullTest(ServerTest):
    """Models and SAEs from a hub."""

    @classmethod
    def setUpClass(cls):
        cls.hub = FakeHub()
        cls.environment = {"HF_ENDPOINT": cls.hub.endpoint}
        super().setUpClass()
        cls.hub.add_directory("openai-community/gpt2", GOLDEN / "lm" / "gpt2")
        cls.hub.repos["openai-community/gpt2"].pop("expected.safetensors", None)
        sae = cls.dir / "sae"
        sae.mkdir()
        (sae / "cfg.json").write_text(json.dumps({
            "architecture": "standard", "d_in": 48, "d_sae": 96, "model_name": "gpt2-small",
            "hook_point": "blocks.2.hook_resid_pre", "activation_fn_str": "relu", "context_size": 32}))
        rng = random.Random(1)
        write_safetensors(sae / "sae_weights.safetensors", {
            name: (shape, [rng.gauss(0, 0.3) for _ in range(shape[0] * (shape[1] if len(shape) > 1 else 1))])
            for name, shape in (("W_enc", [48, 96]), ("b_enc", [96]), ("W_dec", [96, 48]), ("b_dec", [48]))})
        cls.hub.add_directory("jbloom/GPT2-Small-SAEs-Reformatted", sae, "blocks.2.hook_resid_pre/")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.hub.close()

    def test_a_model_and_its_sae_arrive_with_what_is_known_of_them(self):
        self.assertIn("added model gpt2", self.ok("model", "pull", "openai-community/gpt2", "--wait"))
        model = self.server.json("model", "show", "gpt2")
        self.assertEqual(model["source"], f"openai-community/gpt2@{COMMIT}")
        text = self.ok("sae", "pull", "gpt2-small-res-jb/blocks.2.hook_resid_pre", "--id", "res-jb", "--wait")
        self.assertIn("blocks.2.hook_resid_pre", text)
        sae = self.server.json("sae", "show", "res-jb")
        self.assertEqual(sae["model_id"], "gpt2")
        self.assertTrue(sae["center_writing_weights"], "the release needs it")
        (job,) = [j for j in self.server.json("job", "list")["jobs"] if j.get("importing", {}).get("sae")]
        self.assertEqual(job["state"], "SUCCEEDED")
        self.assertEqual(job["transfer"]["bytes_done"], job["transfer"]["bytes_total"])
        self.assertEqual(job["transfer"]["files_done"], job["transfer"]["files_total"])
        # What is there already is not downloaded again, and nothing changes.
        n_blobs = sum("/lfs/" in r for r in self.hub.requests)
        self.ok("model", "pull", "openai-community/gpt2", "--wait")
        self.assertEqual(sum("/lfs/" in r for r in self.hub.requests), n_blobs)

    def test_a_broken_connection_is_continued(self):
        self.hub.add_directory("org/broken", GOLDEN / "lm" / "llama")
        self.hub.cut_off_once = 5000
        self.ok("model", "pull", "org/broken", "--wait")
        self.assertEqual(self.hub.cut_off_once, 0, "the fault did not happen")

    def test_a_busy_hub_is_waited_for(self):
        self.hub.add_directory("org/busy", GOLDEN / "lm" / "llama")
        self.hub.busy = 2
        self.ok("model", "pull", "org/busy", "--wait")
        self.assertEqual(self.hub.busy, 0, "the fault did not happen")

    def test_what_arrives_damaged_is_fetched_again_and_never_used(self):
        self.hub.add_directory("org/damaged", GOLDEN / "lm" / "llama", "once/")
        self.hub.repos["org/damaged"] = changed_weights(self.hub.repos.pop("org/damaged"), "once/", 1)
        self.hub.damaged = 1
        self.ok("model", "pull", "org/damaged", "--wait")
        self.hub.repos["org/spoilt"] = changed_weights(self.hub.repos["org/damaged"], "", 2)
        self.hub.damaged = 1000
        try:
            self.refused("model", "pull", "org/spoilt", "--wait", saying="hash")
        finally:
            self.hub.damaged = 0
        self.refused("model", "show", "spoilt", saying="spoilt")
        self.ok("model", "pull", "org/spoilt", "--wait")

    def test_a_killed_server_continues_the_download_where_it_was(self):
        self.hub.add_directory("org/killed", GOLDEN / "lm" / "llama")
        self.hub.repos["org/killed"] = changed_weights(self.hub.repos["org/killed"], "", 3)
        self.hub.ranges.clear()
        self.hub.hold_after = 20_000
        job = self.server.json("model", "pull", "org/killed")["id"]
        incomplete = lambda: list((self.dir / "hf" / "hub" / "models--org--killed" / "blobs").glob("*.incomplete"))
        wait_for(lambda: any(p.stat().st_size >= 20_000 for p in incomplete()), what="half a file")
        self.server.kill()
        self.hub.hold_after = 0
        self.hub.released.set()
        self.hub.released = threading.Event()
        self.server.start()
        self.ok("job", "watch", job)
        self.assertTrue(any(asked.startswith("bytes=") and asked != "bytes=0-" for asked in self.hub.ranges),
                        self.hub.ranges)
        self.ok("generate", "--model", "killed", "--tokens", "1,2,3", "--max-tokens", 2)

    def test_gated_repositories_and_patterns_say_what_they_are(self):
        self.hub.add_directory("org/gated", GOLDEN / "lm" / "llama")
        self.hub.gated.add("org/gated")
        self.refused("model", "pull", "org/gated", "--wait", saying="gated")
        self.hub.add_directory("org/some", GOLDEN / "lm" / "gpt2")
        self.refused("model", "pull", "org/some", "--include", "*.bin", "--wait", saying="*.bin")
        self.ok("model", "pull", "org/some", "--include", "*.json", "--include", "*.safetensors", "--revision", COMMIT,
                "--wait")
        self.assertEqual(self.server.json("model", "show", "some")["source"], f"org/some@{COMMIT}")

    def test_a_path_in_the_cache_is_known_as_well(self):
        self.ok("model", "pull", "openai-community/gpt2", "--wait")
        self.ok("sae", "pull", "gpt2-small-res-jb/blocks.2.hook_resid_pre", "--id", "pulled", "--wait")
        (folder,) = (self.dir / "hf" / "hub").glob("models--jbloom--*/snapshots/*/blocks.2.hook_resid_pre")
        sae = self.server.json("sae", "add", "by-path", folder)
        self.assertTrue(sae["center_writing_weights"])

    def test_what_is_not_there_fails_with_its_name(self):
        self.refused("model", "pull", "org/none", "--wait", saying="org/none")
        self.refused("sae", "pull", "gpt2-small-res-jb/layer_9", saying="gpt2-small-res-jb/blocks.{L}.hook_resid_pre")
        self.refused("sae", "pull", "nonsense", saying="gpt2-small-res-jb")
        self.refused("model", "pull", "../../etc", saying="etc")
        self.refused("model", "pull", "openai-community/gpt2", "--id", "Bad Id", saying="Bad Id")
        self.refused("model", "pull", "openai-community/gpt2", "--id", "other", "--revision", "nope", "--wait", saying="nope")
        self.assert_serving()

    def test_releases_are_listed(self):
        text = self.ok("sae", "releases")
        for name in ("gpt2-small-res-jb", "gemma-scope-2b-pt-res", "llama", "pythia"):
            self.assertIn(name, text.lower())

    def test_downloads_and_training_hold_each_other_up_in_no_way(self):
        done = self.server.json("model", "pull", "openai-community/gpt2", "--id", "beside", "--idempotency-key", "one")
        again = self.server.json("model", "pull", "openai-community/gpt2", "--id", "beside", "--idempotency-key", "one")
        self.assertEqual(done["id"], again["id"])
        wait_for(lambda: self.server.json("job", "show", done["id"])["state"] == "SUCCEEDED", what="the import")


class OfflineTest(ServerTest):
    """HF_HUB_OFFLINE: what the cache has, and nothing else."""

    def test_what_is_in_the_cache_needs_no_hub(self):
        hub = FakeHub()
        hub.add_directory("org/known", GOLDEN / "lm" / "gpt2")
        home = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(self.dir / "hf-offline")}
        online = Server(self.bin_dir, str(self.dir / "online"), environment=home)
        self.assertEqual(online.run("model", "pull", "org/known", "--wait").returncode, 0)
        online.kill()
        asked = len(hub.requests)
        offline = Server(self.bin_dir, str(self.dir / "offline"), environment={**home, "HF_HUB_OFFLINE": "1"})
        try:
            done = offline.run("model", "pull", "org/known", "--wait")
            self.assertEqual(done.returncode, 0, done.stderr)
            unknown = offline.run("model", "pull", "org/unknown", "--wait")
            self.assertNotEqual(unknown.returncode, 0)
            self.assertIn("HF_HUB_OFFLINE", unknown.stderr)
            self.assertEqual(len(hub.requests), asked)
        finally:
            offline.kill()
            hub.close()


class PrivateHubTest(ServerTest):
    def test_without_the_token_it_says_so_and_with_it_it_works(self):
        hub = FakeHub()
        hub.token = "hf_secret"
        hub.add_directory("org/private", GOLDEN / "lm" / "gpt2")
        try:
            for token, works in (("", False), ("hf_secret", True)):
                server = Server(self.bin_dir, str(self.dir / f"data{works}"), "--hub_endpoint", hub.endpoint,
                                environment={"HF_TOKEN": token, "HF_HOME": str(self.dir / f"hf{works}")})
                done = server.run("model", "pull", "org/private", "--wait")
                self.assertEqual(done.returncode == 0, works, done.stderr)
                if not works:
                    self.assertIn("HF_TOKEN", done.stderr)
                self.assertNotIn("hf_secret", done.stderr + done.stdout + server.log_path.read_text())
                server.kill()
        finally:
            hub.close()


class RootsTest(ServerTest):
    """Nothing outside the allowed roots is read or written, by links or otherwise."""

    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(temporary_directory())
        cls.inside, cls.outside = cls.dir / "inside", cls.dir / "outside"
        for directory in (cls.inside, cls.outside):
            directory.mkdir()
        cls.server = Server(cls.bin_dir, str(cls.dir / "data"), "--roots", str(cls.inside))
        shutil.copytree(GOLDEN / "lm" / "gpt2", cls.inside / "gpt2")
        cls.server.json("model", "add", "host", cls.inside / "gpt2")
        shutil.copytree(DEMO, cls.inside / "reader")
        cls.server.json("model", "add", "reader", cls.inside / "reader")
        shutil.copytree(SAES / "saelens" / "v6_topk", cls.inside / "sae")
        cls.server.json("sae", "add", "sae", cls.inside / "sae", "--model", "host", "--any-width")

    def test_paths_outside_are_refused(self):
        shutil.copytree(GOLDEN / "lm" / "gpt2", self.outside / "gpt2")
        shutil.copytree(SAES / "saelens" / "v6_topk", self.outside / "sae")
        (self.outside / "text.txt").write_text("secret")
        (self.inside / "link").symlink_to(self.outside)
        for root in (self.outside, self.inside / "link", self.inside / ".." / "outside"):
            with self.subTest(str(root)):
                self.refused("model", "add", "m", root / "gpt2", saying="outside the allowed roots")
                self.refused("sae", "add", "s", root / "sae", "--model", "host", "--any-width", saying="outside the allowed roots")
                self.refused("sae", "add", "s", root / "sae" / "cfg.json", "--model", "host", "--any-width",
                             saying="outside the allowed roots")
                self.refused("corpus", "add", "c", root / "text.txt", "--model", "reader", saying="outside the allowed roots")
                self.refused("train", "--id", "t", "--model", "host", "--hook", "blocks.1.hook_resid_post", "--d-sae", 8,
                             "--k", 2, "--tokens", 100, "--activations", root / "text.txt",
                             saying="outside the allowed roots")
                self.refused("sae", "export", "sae", "--out", root / "new", saying="outside the allowed roots")
        self.assertFalse((self.outside / "new").exists())

    def test_links_of_single_files_are_refused(self):
        for name, fixture, files in (("saelens", SAES / "saelens" / "v6_topk", ["cfg.json", "sae_weights.safetensors"]),
                                     ("dict", SAES / "dictionary_learning" / "AutoEncoder", ["ae.pt", "config.json"]),
                                     ("gemma", SAES / "gemma_scope" / "gemma_scope", ["params.npz"])):
            for file in files:
                with self.subTest(f"{name}/{file}"):
                    directory = self.inside / f"{name}-{file}"
                    shutil.copytree(fixture, directory)
                    hidden = self.outside / f"{name}-{file}"
                    shutil.move(directory / file, hidden)
                    (directory / file).symlink_to(hidden)
                    self.refused("sae", "add", "s", directory, "--model", "host", "--any-width",
                                 saying="outside the allowed roots")
        documents = self.inside / "documents"
        documents.mkdir()
        (documents / "fine.txt").write_text("fine")
        (self.outside / "secret.txt").write_text("secret")
        (documents / "link.txt").symlink_to(self.outside / "secret.txt")
        self.refused("corpus", "add", "c", documents, "--model", "reader", saying="outside the allowed roots")
        model = self.inside / "linked-model"
        shutil.copytree(GOLDEN / "lm" / "gpt2", model)
        shutil.move(model / "model.safetensors", self.outside / "weights")
        (model / "model.safetensors").symlink_to(self.outside / "weights")
        self.refused("model", "add", "m", model, saying="outside the allowed roots")


class ComputeDtypeTest(ServerTest):
    flags = ("--dtype", "bfloat16")

    def test_bfloat16_says_how_far_it_moves_activations(self):
        model = self.server.json("model", "add", "demo-lm", DEMO)
        self.assertEqual(model["dtype"], "bfloat16")
        self.assertTrue(any("bfloat16" in warning for warning in model["warnings"]), model["warnings"])
        self.assertEqual(self.server.json("server", "info")["dtype"], "bfloat16")
        self.ok("generate", "--model", "demo-lm", "--prompt", "The ship", "--max-tokens", 4)

    def test_another_dtype_is_refused(self):
        with self.assertRaisesRegex(RuntimeError, "int8"):
            Server(self.bin_dir, str(self.dir / "other"), "--dtype", "int8")


class ChatTest(ServerTest):
    TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}" \
               "{% if add_generation_prompt %}[assistant]{% endif %}"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = cls.dir / "chatty"
        directory.mkdir()
        for path in DEMO.iterdir():
            if path.suffix in (".json", ".safetensors", ".model") and path.name not in ("expected.json",):
                shutil.copy(path, directory)
        (directory / "chat_template.jinja").write_text(cls.TEMPLATE)
        cls.server.json("model", "add", "chatty", directory)
        cls.server.json("model", "add", "plain", DEMO)

    def test_messages_are_written_as_the_template_says(self):
        self.assertTrue(self.server.json("model", "show", "chatty")["has_chat_template"])
        events = self.server.json("generate", "--model", "chatty", "--message", "system:Be brief.", "--message",
                                  "user:Hello: you", "--max-tokens", 2)
        started = next(e["started"] for e in events if "started" in e)
        prompt = "".join(t["display"] for t in started["prompt"] if not t["special"])
        self.assertEqual(prompt.replace("↵", "\n"), "[system] Be brief.\n[user] Hello: you\n[assistant]")

    def test_a_model_without_template_says_so(self):
        self.assertFalse(self.server.json("model", "show", "plain")["has_chat_template"])
        self.refused("generate", "--model", "plain", "--message", "user:Hi", saying="template")
        self.refused("generate", "--model", "chatty", "--message", "Hi", saying="ROLE:TEXT")
        self.refused("generate", "--model", "chatty", "--message", "user:Hi", "--prompt", "x", saying="--message excludes")


if __name__ == "__main__":
    run_tests(sys.modules[__name__])
