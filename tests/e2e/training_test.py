"""Training, sweeps, evaluation and activation caches from the command line against a real server: recipes, sources,
what is refused and what works instead, and servers that die.

usage: training_test.py --bin BUILD_DIR [-k PATTERN]
"""

import math
import pathlib
import random
import re
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from harness import DEMO, ROOT, ServerTest, demo_corpus, read_safetensors, run_tests, wait_for, write_safetensors

HOOK = "blocks.3.hook_resid_post"
WIDTH = 256  # of the demo model
ON = ["--model", "demo-lm", "--corpus", "small", "--hook", HOOK]
QUICK = ["--batch-size", 512, "--lr", "1e-3", "--seed", 3]
SMALL = [*ON, "--d-sae", 128, "--k", 8, "--tokens", 20000, *QUICK]


def table_row(text: str, first: str) -> list[str]:
    """The cells of the row that begins with `first`."""
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [first]]
    return line.split()


def readme_rows(heading: str) -> list[list[str]]:
    """The table below `heading` of the README, without backticks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split(heading)[1]
    rows = [line for line in text.split("\n\n")[0].splitlines() if line.startswith("| `")]
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in rows]
    return [[cell.strip().strip("`").replace("\\|", "|") for cell in row] for row in cells]


def write_rows(path: pathlib.Path, rows: list[list[float]], code: str = "e") -> pathlib.Path:
    """As np.memmap writes a matrix of float16 ("e") or float32 ("f")."""
    path.write_bytes(b"".join(struct.pack(f"<{len(row)}{code}", *row) for row in rows))
    return path


def sparse_mixture(n: int, seed: int = 1) -> list[list[float]]:
    """Rows that are sums of two of twelve fixed directions each."""
    rng = random.Random(seed)
    directions = [[rng.gauss(0, 1) for _ in range(WIDTH)] for _ in range(12)]
    rows = []
    for _ in range(n):
        a, b = rng.sample(directions, 2)
        s, t = rng.uniform(0.5, 2), rng.uniform(0.5, 2)
        rows.append([s * x + t * y for x, y in zip(a, b)])
    return rows


class TrainingServerTest(ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.json("model", "add", "demo-lm", DEMO)
        cls.server.json("corpus", "add", "small", demo_corpus(cls.dir, 150), "--heldout", 0.1)

    def weights(self, sae: str) -> bytes:
        return (self.dir / "data" / "saes" / sae / "sae_weights.safetensors").read_bytes()

    def job_of(self, sae: str) -> dict:
        return self.server.json("job", "show", self.server.json("sae", "show", sae)["training_job_id"])


class PresetTest(TrainingServerTest):
    def test_readme_lists_the_presets(self):
        listed = self.server.json("preset", "list")
        default = listed["defaults"]["architecture"]
        self.assertEqual(readme_rows("| preset | architecture |"),
                         [[p["name"], p["spec"]["architecture"] or default, p["title"], p["source"]] for p in listed["presets"]])

    def test_a_preset_says_what_it_sets_and_what_it_leaves_open(self):
        listed = self.ok("preset", "list")
        self.assertIn("gpt2-mlp6-notebook", listed)
        shown = self.ok("preset", "show", "openai-topk")
        for part in ("2406.04093", "you give", "differs", "fired_above", "unit_before_step"):
            self.assertIn(part, shown)
        self.refused("preset", "show", "opnai-topk", saying="openai-topk")
        self.refused("train", "--id", "x", *ON, "--preset", "opnai-topk", "--tokens", 100, saying="openai-topk")

    def test_every_preset_resolves_to_what_it_states(self):
        overridden = {"d_sae", "batch_size", "buffer_tokens", "tokens", "k_aux"}  # k_aux -1 stands for d_in / 2
        for preset in self.server.json("preset", "list")["presets"]:
            with self.subTest(preset["name"]):
                spec = preset["spec"]
                words = ["train", "--id", "x", *ON, "--preset", preset["name"], "--buffer-tokens", 4096, "--dry-run"]
                if "expansion" not in spec:
                    words += ["--d-sae", WIDTH]
                if "epochs" not in spec:
                    words += ["--tokens", 10000]
                if spec["batch_size"] != -1:
                    words += ["--batch-size", 512]
                plan = self.server.json(*words)
                (resolved,) = plan["resolved"]
                self.assertGreater(int(plan["steps"]), 0)
                for field, value in spec.items():
                    if field not in overridden and value not in ("", 0, "0", [], None):
                        self.assertEqual(resolved[field], value, field)

    def test_a_preset_trains_with_what_is_changed_of_it(self):
        text = self.ok("train", "--id", "by-preset", *ON, "--preset", "dictionary_learning-topk", "--d-sae", 256, "--k", 8,
                       "--tokens", 20000, "--batch-size", 512, "--set", "lr_warmup_steps=5", "--wait")
        self.assertIn("held-out tokens: L0 8", text)
        self.assertIn("explained variance", text)
        job = self.job_of("by-preset")
        spec = job["training"]
        self.assertEqual((spec["preset"], spec["k"], spec["lr_warmup_steps"], spec["decoder_norm"]),
                         ("dictionary_learning-topk", 8, 5, "unit"))
        self.assertEqual(self.server.json("sae", "show", "by-preset")["k"], 8)
        shown = self.ok("job", "show", job["id"])
        for part in ("dictionary_learning-topk", "lr_warmup_steps", "held-out tokens"):
            self.assertIn(part, shown)
        self.assertNotIn("resample_loss_power", shown, "a default is no difference")

    def test_checkpoints_stay_and_can_be_added(self):
        text = self.ok("train", "--id", "kept", *SMALL, "--set", "checkpoint_steps=10", "--wait")
        directory = pathlib.Path(self.job_of("kept")["checkpoint_dir"])
        self.assertIn(f"checkpoints: {directory}", text)
        for which in ("last", "best"):
            self.assertTrue((directory / which / "cfg.json").exists(), which)
            self.ok("sae", "add", f"kept-{which}", directory / which, "--model", "demo-lm")
            evaluation = self.server.json("evaluate", "--sae", f"kept-{which}", "--corpus", "small", "--tokens", 2000,
                                          "--no-ablations", "--wait")[-1]
            self.assertAlmostEqual(evaluation["metrics"]["l0"], 8, delta=0.01)

    def test_curves_are_written_for_tensorboard(self):
        self.ok("train", "--id", "curves", *SMALL, "--wait")
        files = [p for p in (self.dir / "data" / "tensorboard").rglob("*tfevents*") if "curves" in str(p)]
        self.assertTrue(files, "no event file")
        self.assertIn(b"explained_variance", files[0].read_bytes())

    def test_all_architectures_train(self):
        for words in (["--architecture", "standard", "--l1", 1], ["--architecture", "batchtopk", "--k", 8],
                      ["--architecture", "matryoshka_batchtopk", "--k", 8, "--set", "group_sizes=32,96"],
                      ["--architecture", "jumprelu", "--set", "target_l0=8"], ["--architecture", "gated", "--l1", 1],
                      ["--architecture", "topk", "--k", 8, "--dtype", "bf16"],
                      ["--architecture", "topk_skip_transcoder", "--k", 8, "--hook-out", "blocks.4.hook_resid_post"]):
            with self.subTest(" ".join(map(str, words))):
                sae = f"all-{words[1]}-{len(words)}"
                self.ok("train", "--id", sae, *ON, "--d-sae", 128, "--tokens", 6000, *QUICK, *words, "--wait")
                self.assertEqual(self.server.json("sae", "show", sae)["architecture"], words[1])
                self.ok("activations", "--sae", sae, "--text", "The ship sailed at dawn.")


class PlanTest(TrainingServerTest):
    def n_jobs(self) -> int:
        return len(self.server.json("job", "list").get("jobs", []))

    def test_a_dry_run_says_what_would_be_done_and_does_nothing(self):
        before = self.n_jobs()
        text = self.ok("train", "--id", "dry", *SMALL, "--dry-run")
        for part in ("d_sae", "lr_warmup_steps", "40 steps", "GiB"):
            self.assertIn(part, text)
        self.assertNotIn("ste_kernel", text, "a default is no difference")
        plan = self.server.json("train", "--id", "dry", *SMALL, "--sweep", "architecture=batchtopk,standard", "--dry-run")
        self.assertEqual([(r["sae_id"], r["architecture"]) for r in plan["resolved"]],
                         [("dry-batchtopk", "batchtopk"), ("dry-standard", "standard")])
        text = self.ok("train", "--id", "dry", *SMALL, "--sweep", "auxk=0,0.1", "--dry-run")
        self.assertIn("auxk_coefficient", text)
        self.assertEqual(self.n_jobs(), before)
        self.refused("sae", "show", "dry", saying="dry")

    def test_every_field_can_be_set_by_its_name(self):
        plan = self.server.json("train", "--id", "dry", *SMALL, "--dry-run", "--set", "adam_beta1=0.5", "--set",
                                "optimizer=adamw", "--set", "auxk-relu=false", "--set", "k_aux=1",
                                "--set", "lr_decay_fraction=0.5", "--set", "heldout_tokens=1e3")
        (spec,) = plan["resolved"]
        self.assertEqual((spec["adam_beta1"], spec["optimizer"], spec["auxk_relu"], spec["k_aux"], spec["lr_decay_steps"],
                          spec["heldout_tokens"]), (0.5, "adamw", False, "1", 20, "1000"))

    def test_a_specification_that_cannot_work_is_refused_with_one_that_does(self):
        base = ["train", "--id", "bad", "--model", "demo-lm", "--corpus", "small"]
        at_hook = [*base, "--hook", HOOK]
        cases = [
            ([*at_hook, "--d-sae", 16, "--k", 17, "--tokens", 1000], r"k is 17, .*\[1, 16\]"),
            ([*base, "--hook", "blocks.9.hook_mlp_out", "--d-sae", 16, "--k", 2, "--tokens", 1000], "blocks.9"),
            ([*base, "--hook", "blocks.3.nonsense", "--d-sae", 16, "--k", 2, "--tokens", 1000], "blocks.3.nonsense"),
            ([*at_hook, "--d-sae", 16, "--k", 2, "--tokens", 1000, "--batch-size", 512, "--buffer-tokens", 256],
             r"buffer_tokens is 256, .*512"),
            ([*at_hook, "--d-sae", 16_000_000, "--k", 2, "--tokens", 1000], r"GiB|MiB|bytes"),
            ([*at_hook, "--k", 2, "--tokens", 1000], "d_sae"),
            ([*at_hook, "--d-sae", 16, "--k", 2], "tokens"),
            ([*base, "--d-sae", 16, "--k", 2, "--tokens", 1000], "hook"),
            ([*at_hook, "--d-sae", 16, "--k", 2, "--tokens", 1000, "--architecture", "magic"], "batchtopk"),
            ([*at_hook, "--d-sae", 16, "--k", 2, "--tokens", 1000, "--set", "optimizer=sgd"], "signum"),
            ([*at_hook, "--d-sae", 16, "--k", 2, "--tokens", 1000, "--epochs", 2], "only one"),
            ([*at_hook, "--d-sae", 16, "--k", 2, "--tokens", 1000, "--lr", "-1"], "learning_rate"),
            ([*at_hook, "--d-sae", 16, "--k", 2, "--tokens", 1000, "--architecture", "transcoder"], "hook_name_out"),
            ([*at_hook, "--d-sae", 16, "--tokens", 1000, "--architecture", "gated", "--auxk", 1], "topk"),
            ([*at_hook, "--d-sae", 16, "--k", 2, "--tokens", 1000, "--mix", "none:2"], "none"),
            ([*at_hook, "--d-sae", 16, "--k", 2, "--tokens", 1000, "--activations", "none"], "there can be no corpus"),
            ([*at_hook, "--d-sae", 16, "--tokens", 1000, "--sweep", "k=2,17"], "bad-k17"),
            ([*at_hook, "--d-sae", 16, "--k", 2, "--tokens", 1000, "--sweep", "seed=1,2"], "seed"),
        ]
        for words, saying in cases:
            for way in ([], ["--dry-run"]):
                with self.subTest(" ".join(map(str, [*words[5:], *way]))):
                    done = self.server.run(*words, *way)
                    self.assertNotEqual(done.returncode, 0, done.stdout)
                    self.assertRegex(done.stderr, saying)
        self.assertEqual(self.n_jobs(), 0)
        self.assert_serving()

    def test_the_alternative_that_memory_allows_is_one(self):
        done = self.server.run("train", "--id", "huge", *ON, "--k", 2, "--tokens", 10 ** 9, "--d-sae", 16_000_000, "--dry-run")
        self.assertNotEqual(done.returncode, 0)
        fits = re.search(r"d_sae (?:of |up to |<= )?(\d+)", done.stderr)
        self.assertTrue(fits, done.stderr)
        self.ok("train", "--id", "huge", *ON, "--k", 2, "--tokens", 10 ** 9, "--d-sae", fits[1], "--dry-run")

    def test_wrong_words_are_answered_in_one_line(self):
        cases = [
            (["train", "--id", "x", "--architectur", "topk"], "near it: --architecture"),
            (["train", "--id", "x", "--k"], "--k needs a value"),
            (["train", "--id", "--model", "demo-lm"], "--id needs a value"),
            (["train", "--model", "demo-lm"], "missing --id"),
            (["evaluate", "--sae", "x"], "missing --corpus"),
            (["cache", "add"], "missing ID"),
        ]
        for words, saying in cases:
            with self.subTest(" ".join(words)):
                done = self.refused(*words, saying=saying)
                self.assertEqual(done.returncode, 2)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertRegex(done.stderr, r"; see featurescope \w+( \w+)? --help$")
        for words, saying in [
                (["--set", "lerning_rate=1"], "near it: learning_rate"), (["--set", "k_aux"], "FIELD=VALUE"),
                (["--k", "many"], "whole number"), (["--set", "tanh_scale=high"], "a number"),
                (["--set", "scale_inputs=maybe"], "true or false"), (["--k", 3, "--set", "k=4"], "set already"),
                (["--k", 3, "--sweep", "k=4,5"], "set already"), (["--sweep", "k=4,4"], "twice"),
                (["--sweep", "group_sizes=4,5"], "cannot be swept"), (["--set", "activations=x"], "--activations"),
                (["--mix", "a:b:c"], "CORPUS[:WEIGHT]"), (["--target-activations", "./x"], "--activations FILE")]:
            with self.subTest(" ".join(map(str, words))):
                done = self.refused("train", "--id", "x", *words, saying=saying)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)


class SweepTest(TrainingServerTest):
    def test_each_sae_is_what_it_would_be_alone_and_the_table_says_which_to_take(self):
        text = self.ok("train", "--id", "s", *ON, "--d-sae", 128, "--tokens", 20000, *QUICK, "--sweep", "k=16,4,8", "--wait")
        rows = [line.split() for line in text.splitlines() if line.startswith("s-k")]
        self.assertEqual([row[0] for row in rows], ["s-k4", "s-k8", "s-k16"], text)
        self.assertTrue(any("*" in row for row in rows), text)
        for row, k in zip(rows, (4, 8, 16)):
            self.assertAlmostEqual(float(row[1]), k, delta=0.01)
        self.ok("train", "--id", "alone", *SMALL, "--wait")
        self.assertEqual(self.weights("s-k8"), self.weights("alone"))
        job = self.job_of("s-k16")
        self.assertEqual({m["sae_id"] for m in job["sweep"]["members"]}, {"s-k4", "s-k8", "s-k16"})
        self.assertEqual(self.job_of("s-k4")["id"], job["id"])
        names = {name for point in self.server.json("job", "metrics", job["id"])["points"] for name in point["values"]}
        for name in ("s-k4/loss", "s-k16/l0", "s-k8/heldout_explained_variance"):
            self.assertIn(name, names)
        shown = self.ok("job", "show", job["id"])
        self.assertIn("s-k4", shown)
        self.assertIn("Pareto", shown)
        self.assertIn("s-k16 and 2 more", self.ok("job", "list"))

    def test_a_grid_of_widths_architectures_and_hook_points(self):
        self.ok("train", "--id", "g", "--model", "demo-lm", "--corpus", "small", "--k", 4, "--tokens", 4000, *QUICK,
                "--sweep", f"hook={HOOK},blocks.1.hook_resid_post", "--sweep", "d-sae=64,96", "--sweep",
                "architecture=topk,batchtopk", "--wait")
        saes = {s["id"]: s for s in self.server.json("sae", "list")["saes"] if s["id"].startswith("g-")}
        self.assertEqual(len(saes), 8, sorted(saes))
        sae = saes["g-blocks.1.hook_resid_post-d-sae96-batchtopk"]
        self.assertEqual((sae["hook_name"], sae["d_sae"], sae["architecture"]), ("blocks.1.hook_resid_post", 96, "batchtopk"))

    def test_kill_9_in_the_middle_gives_the_same_saes(self):
        words = [*ON, "--d-sae", 256, "--tokens", 60000, *QUICK, "--sweep", "k=4,8", "--sweep", "architecture=topk,batchtopk"]
        self.ok("train", "--id", "whole", *words, "--wait")
        job = self.server.json("train", "--id", "killed", *words, "--set", "checkpoint_steps=7")["id"]
        progress = lambda: self.server.json("job", "show", job)["progress"]
        for share in (0.2, 0.5):
            wait_for(lambda: progress() > share, what=f"training progress {share}")
            self.server.kill()
            self.server.start()
        self.ok("job", "watch", job)
        for k in (4, 8):
            for architecture in ("topk", "batchtopk"):
                self.assertEqual(self.weights(f"whole-k{k}-{architecture}"), self.weights(f"killed-k{k}-{architecture}"))

    def test_a_cancelled_sweep_leaves_no_sae(self):
        job = self.server.json("train", "--id", "c", *ON, "--d-sae", 64, "--tokens", 10 ** 12, *QUICK, "--sweep", "k=2,4")["id"]
        wait_for(lambda: self.server.json("job", "show", job)["state"] == "RUNNING", what="running")
        self.ok("job", "cancel", job)
        wait_for(lambda: self.server.json("job", "show", job)["state"] == "CANCELLED", what="cancelled")
        for sae in ("c-k2", "c-k4"):
            self.refused("sae", "show", sae, saying=sae)
        self.ok("train", "--id", "c", *ON, "--d-sae", 64, "--tokens", 2000, *QUICK, "--sweep", "k=2,4", "--wait")


class SourceTest(TrainingServerTest):
    """Activations from elsewhere than a model on one corpus."""

    def explained(self, sae: str, rows: list[list[float]]) -> float:
        x, out = self.dir / "x.safetensors", self.dir / "o.safetensors"
        write_safetensors(x, {"x": ([len(rows), WIDTH], [value for row in rows for value in row])})
        self.ok("sae", "forward", sae, "--in", x, "--out", out)
        decoded = read_safetensors(out)["sae_out"][1]
        mean = [sum(row[j] for row in rows) / len(rows) for j in range(WIDTH)]
        error = sum((row[j] - decoded[i * WIDTH + j]) ** 2 for i, row in enumerate(rows) for j in range(WIDTH))
        return 1 - error / sum((row[j] - mean[j]) ** 2 for row in rows for j in range(WIDTH))

    def test_a_raw_memmap_of_halves_is_learned_from(self):
        rows = sparse_mixture(3000)
        first, second = (write_rows(self.dir / f"acts{i}.bin", part) for i, part in enumerate((rows[:1000], rows[1000:])))
        words = ["--model", "demo-lm", "--hook", HOOK, "--d-sae", 64, "--k", 2, "--tokens", 60000, "--batch-size", 256, "--lr",
                 "5e-3", "--seed", 1]
        self.ok("train", "--id", "raw", *words, "--activations", first, "--activations", second, "--wait")
        self.assertGreater(self.explained("raw", rows[:200]), 0.8)
        floats = write_rows(self.dir / "acts.f32", rows[:600], "f")
        self.ok("train", "--id", "raw32", *words, "--activations", floats, "--activations-dtype", "fp32", "--wait")
        self.assertGreater(self.explained("raw32", rows[:200]), 0.8)

    def test_raw_files_that_cannot_be_are_named(self):
        words = ["train", "--id", "bad", "--model", "demo-lm", "--hook", HOOK, "--d-sae", 64, "--k", 2, "--tokens", 1000]
        cut = self.dir / "cut.bin"
        cut.write_bytes(bytes(1001))
        self.refused(*words, "--activations", cut, saying="cut.bin")
        self.refused(*words, "--activations", self.dir / "none.bin", saying="none.bin")
        whole = write_rows(self.dir / "whole.bin", sparse_mixture(20))
        self.refused(*words, "--activations", whole, "--activations-width", 100, saying="100")
        self.refused(*words, "--activations", whole, "--activations-dtype", "int8", saying="int8")

    def test_a_loss_that_is_no_longer_finite_ends_the_job_and_keeps_the_last_good_checkpoint(self):
        rows = sparse_mixture(2000, seed=7)
        rows[1500][5] = math.nan
        path = write_rows(self.dir / "nan.bin", rows)
        words = ["--model", "demo-lm", "--hook", HOOK, "--d-sae", 64, "--k", 2, "--tokens", 2000, "--batch-size", 100,
                 "--buffer-tokens", 100, "--set", "checkpoint_steps=1", "--activations", path]
        done = self.server.run("train", "--id", "nan", *words, "--wait")
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, "finite|NaN")
        self.assertIn("checkpoints: ", done.stderr)
        (job,) = [j for j in self.server.json("job", "list")["jobs"] if j.get("training", {}).get("sae_id") == "nan"]
        self.assertEqual(job["state"], "FAILED")
        self.assertTrue((pathlib.Path(job["checkpoint_dir"]) / "last" / "sae_weights.safetensors").exists())
        self.refused("sae", "show", "nan", saying="nan")

    def test_a_cache_is_written_once_and_trained_on(self):
        both = f"{HOOK},blocks.4.hook_resid_post"
        self.assertIn("cache acts", self.ok("cache", "add", "acts", "--model", "demo-lm", "--corpus", "small", "--hooks", both,
                                            "--dtype", "fp16", "--wait"))
        (cache,) = self.server.json("cache", "list")["caches"]
        self.assertEqual((cache["id"], cache["hook_names"], cache["widths"], cache["dtype"]),
                         ("acts", both.split(","), [WIDTH, WIDTH], "float16"))
        self.assertGreater(int(cache["n_rows"]), 10000)
        self.assertIn("acts", self.ok("cache", "list"))
        words = ["--model", "demo-lm", "--hook", HOOK, "--d-sae", 128, "--tokens", 20000, *QUICK, "--activations", "acts"]
        text = self.ok("train", "--id", "cached", *words, "--k", 8, "--wait")
        self.assertIn("explained variance", text)
        self.ok("train", "--id", "live", *SMALL, "--wait")
        found = [self.server.json("evaluate", "--sae", sae, "--corpus", "small", "--tokens", 2000, "--no-ablations", "--wait")[-1]
                 ["metrics"]["explained_variance"] for sae in ("cached", "live")]
        self.assertAlmostEqual(found[0], found[1], delta=0.1)
        self.ok("train", "--id", "cached", *words, "--sweep", "k=4,8", "--wait")
        self.ok("train", "--id", "through", *words, "--k", 8, "--architecture", "topk_transcoder", "--hook-out",
                "blocks.4.hook_resid_post", "--wait")
        self.refused("train", "--id", "other", "--model", "demo-lm", "--hook", "blocks.0.hook_resid_post", "--d-sae", 64, "--k", 2,
                     "--tokens", 1000, "--activations", "acts", saying="blocks.0.hook_resid_post")
        self.refused("cache", "add", "acts", "--model", "demo-lm", "--corpus", "small", "--hooks", HOOK, saying="acts")
        self.ok("cache", "delete", "acts")
        self.refused("train", "--id", "gone", *words, "--k", 8, saying="acts")
        self.refused("cache", "delete", "acts", saying="acts")

    def test_a_cache_survives_kill_9_while_it_is_written(self):
        self.ok("corpus", "add", "more", demo_corpus(self.dir, 600))
        words = ["--model", "demo-lm", "--corpus", "more", "--hooks", HOOK, "--dtype", "fp32"]
        job = self.server.json("cache", "add", "killed", *words)["id"]
        wait_for(lambda: self.server.json("job", "show", job)["progress"] > 0.1, what="progress")
        self.server.kill()
        self.server.start()
        self.ok("job", "watch", job)
        self.ok("cache", "add", "whole", *words, "--wait")
        caches = {c["id"]: c for c in self.server.json("cache", "list")["caches"]}
        self.assertEqual(caches["killed"]["n_rows"], caches["whole"]["n_rows"])
        files = [sorted(p for p in (self.dir / "data").rglob("*") if p.is_file() and name in p.parts) for name in ("killed", "whole")]
        self.assertEqual(*[[p.read_bytes() for p in part if p.suffix not in (".json",)] for part in files])

    def test_a_mixture_takes_from_all_its_corpora(self):
        self.ok("corpus", "add", "second", demo_corpus(self.dir, 40))
        self.ok("train", "--id", "mixed", *SMALL, "--mix", "second:2", "--mix", "small:1", "--wait")
        spec = self.job_of("mixed")["training"]
        self.assertEqual((spec["corpus_id"], spec["corpus_weight"], [(c["corpus_id"], c["weight"]) for c in spec["more_corpora"]]),
                         ("small", 1, [("second", 2)]))
        self.ok("train", "--id", "unmixed", *SMALL, "--wait")
        self.assertNotEqual(self.weights("mixed"), self.weights("unmixed"))


class EvaluationTest(TrainingServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.json("corpus", "add", "open", demo_corpus(cls.dir, 30))
        cls.server.json("train", "--id", "sae", *ON, "--d-sae", 512, "--k", 16, "--tokens", 40000, *QUICK, "--wait")

    def test_readme_defines_every_number(self):
        definitions = self.server.json("evaluation", "list")["definitions"]
        self.assertEqual(readme_rows("| metric | definition |"), [[d["name"], d["formula"], d["meaning"]] for d in definitions])

    def test_the_numbers_agree_with_each_other_and_have_definitions(self):
        evaluation = self.server.json("evaluate", "--sae", "sae", "--corpus", "small", "--tokens", 4000, "--wait")[-1]
        m = evaluation["metrics"]
        self.assertAlmostEqual(m["explained_variance"], 1 - m["fvu"], places=9)
        self.assertAlmostEqual(m["l0"], 16, delta=0.5)
        self.assertTrue(m["ce_clean"] < m["ce_sae"] < m["ce_zero"], m)
        self.assertAlmostEqual(m["ce_loss_recovered"], (m["ce_zero"] - m["ce_sae"]) / (m["ce_zero"] - m["ce_clean"]), places=9)
        self.assertEqual(sum(map(int, evaluation["histograms"]["density"]["counts"])), 512)
        text = self.ok("evaluate", "--sae", "sae", "--corpus", "small", "--tokens", 4000, "--wait")
        self.assertIn("(ce_zero - ce_sae) / (ce_zero - ce_clean)", text)
        self.assertEqual(float(table_row(text, "l0")[1]), round(m["l0"], 2))

    def test_evaluations_are_listed_and_go_with_their_sae(self):
        self.ok("train", "--id", "short", *SMALL, "--wait")
        self.ok("evaluate", "--sae", "short", "--corpus", "open", "--part", "all", "--no-ablations", "--wait")
        self.ok("evaluate", "--sae", "sae", "--corpus", "open", "--tokens", 1000, "--no-ablations", "--wait")
        (one,) = self.server.json("evaluation", "list", "--sae", "short")["evaluations"]
        self.assertEqual((one["sae_id"], one["corpus_id"]), ("short", "open"))
        self.assertNotIn("ce_zero", one["metrics"])
        listed = self.ok("evaluation", "list")
        self.assertIn("short", listed)
        self.ok("sae", "delete", "short")
        self.assertNotIn("short", self.ok("evaluation", "list"))

    def test_what_cannot_be_measured_is_refused(self):
        for words, saying in [(["--sae", "none", "--corpus", "small"], "none"), (["--sae", "sae", "--corpus", "none"], "none"),
                              (["--sae", "sae", "--corpus", "small", "--part", "third"], "heldout"),
                              (["--sae", "sae", "--corpus", "open", "--part", "heldout"], "holds nothing out")]:
            with self.subTest(" ".join(words)):
                self.refused("evaluate", *words, "--wait", saying=saying)

    def test_kill_9_while_measuring_gives_the_same_numbers(self):
        words = ["evaluate", "--sae", "sae", "--corpus", "small", "--part", "all", "--tokens", 8000]
        whole = self.server.json(*words, "--wait")[-1]["metrics"]
        job = self.server.json(*words)["id"]
        wait_for(lambda: self.server.json("job", "show", job)["state"] != "QUEUED", what="start")
        self.server.kill()
        self.server.start()
        self.ok("job", "watch", job)
        found = [e for e in self.server.json("evaluation", "list", "--sae", "sae")["evaluations"] if e["job_id"] == job]
        self.assertEqual(found[0]["metrics"], whole)

    def test_the_tour_shows_what_was_measured(self):
        self.ok("index", "--sae", "sae", "--corpus", "small", "--tokens", 8000, "--wait")
        self.ok("evaluate", "--sae", "sae", "--corpus", "small", "--tokens", 1000, "--wait")
        tour = self.ok("tour", "--sae", "sae", "--features", 1)
        self.assertIn("CE recovered", tour)


class AdviceTest(TrainingServerTest):
    def test_a_training_that_goes_wrong_is_told_so_with_numbers(self):
        text = self.ok("train", "--id", "thin", *ON, "--d-sae", 512, "--k", 2, "--tokens", 120000, "--batch-size", 512, "--lr",
                       "1e-3", "--auxk", 0, "--wait")
        job = self.job_of("thin")["id"]
        advice = self.server.json("job", "advice", job)["advice"]
        rules = {a["rule"]: a for a in advice}
        self.assertIn("l0_low", rules, advice)
        self.assertIn("2.0 features", rules["l0_low"]["evidence"])
        self.assertIn("k", rules["l0_low"]["suggestion"])
        self.assertIn("- l0_low: ", text)
        self.assertIn("l0_low", self.ok("job", "show", job))
        self.refused("job", "advice", "none", saying="none")


if __name__ == "__main__":
    run_tests(sys.modules[__name__])
