#include "server/jobs/training_job.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "server/jobs/job_advice.h"
#include "server/jobs/job_inputs.h"
#include "server/train/activation_cache.h"
#include "server/train/presets.h"
#include "server/train/run_training.h"
#include "tests/jobs/jobs_fixture.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

// Three recipes on one stream.
SweepJob TinySweep(const std::string& prefix, uint64_t tokens = 6000) {
  SweepJob sweep;
  for (const char* name : {"a", "b", "c"}) {
    sweep.members.push_back(TinyTraining(prefix + name, tokens));
  }
  sweep.members[1].training.k = 8;
  sweep.members[1].training.d_sae = 32;
  sweep.members[2].training.architecture = "standard";
  sweep.members[2].hook_name = "blocks.0.hook_resid_post";
  return sweep;
}

class TrainingJobTest : public JobsTest {
 protected:
  std::string HashOf(const std::string& sae_id) {
    const absl::StatusOr<SaeRow> sae = server_->catalog->GetSae(sae_id);
    EXPECT_TRUE(sae.ok()) << sae.status();
    return sae.ok() ? sae->hash : "";
  }
  // That the sweep's SAEs are what the same three runs make alone.
  void ExpectAsAlone(const std::string& prefix, uint64_t tokens, int64_t checkpoint_steps = 0) {
    const SweepJob alone = TinySweep("alone-", tokens);
    for (size_t i = 0; i < alone.members.size(); ++i) {
      TrainingJob job = alone.members[i];
      job.training.checkpoint_steps = checkpoint_steps;
      const auto submitted = server_->queue->SubmitTraining(job, "");
      ASSERT_TRUE(submitted.ok()) << submitted.status();
      ASSERT_EQ(server_->AwaitEnd(submitted->id).state, JobState::kSucceeded);
      const std::string name = job.sae_id.substr(job.sae_id.size() - 1);
      EXPECT_EQ(HashOf(prefix + name), HashOf(job.sae_id)) << name;
    }
  }
  absl::Status SubmitSweep(const std::function<void(SweepJob*)>& change) {
    SweepJob sweep = TinySweep("");
    change(&sweep);
    return server_->queue->SubmitSweep(sweep, "").status();
  }
  absl::Status Submit(const std::function<void(TrainingJob*)>& change) {
    TrainingJob job = TinyTraining("new");
    change(&job);
    return server_->queue->SubmitTraining(job, "").status();
  }
  // Submits and waits for the new SAE's row.
  SaeRow Train(const TrainingJob& job) {
    const auto submitted = server_->queue->SubmitTraining(job, "");
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    if (!submitted.ok()) return SaeRow();
    const JobRow end = server_->AwaitEnd(submitted->id);
    EXPECT_EQ(end.state, JobState::kSucceeded) << end.error;
    return server_->catalog->GetSae(job.sae_id).value_or(SaeRow());
  }
  // `rows` rows of float32 numbers.
  std::string WriteRows(const std::string& name, size_t rows, size_t width = kTinyWidth) {
    torch::manual_seed(5);
    const torch::Tensor values =
        torch::randn({static_cast<int64_t>(rows), static_cast<int64_t>(width)});
    std::ofstream out(dir_ / name, std::ios::binary);
    out.write(static_cast<const char*>(values.data_ptr()),
              static_cast<std::streamsize>(values.numel() * 4));
    return dir_ / name;
  }
};

TEST_F(TrainingJobTest, ASweepMakesTheSaesOfSingleRunsBitForBit) {
  Open();
  const auto job = server_->queue->SubmitSweep(TinySweep("s-"), "key");
  ASSERT_TRUE(job.ok()) << job.status();
  const JobRow end = server_->AwaitEnd(job->id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  EXPECT_EQ(end.kind, kSweepKind);
  EXPECT_EQ(server_->catalog->GetSae("s-c")->hook_name, "blocks.0.hook_resid_post");
  EXPECT_EQ(server_->catalog->GetSae("s-b")->training_job_id, job->id);
  const std::vector<MetricRow> points = server_->queue->Metrics(job->id, 1000).value();
  ASSERT_FALSE(points.empty());
  for (const char* name : {"s-a/loss", "s-b/l0", "s-c/l1_loss", "tokens_per_second"}) {
    EXPECT_TRUE(points.back().values.contains(name)) << name;
  }
  EXPECT_EQ(server_->queue->SubmitSweep(TinySweep("s-"), "key")->id, job->id);
  ExpectAsAlone("s-", 6000);
}

TEST_F(TrainingJobTest, AStoppedServersSweepContinuesWithTheNext) {
  Open();
  const std::string id = server_->queue->SubmitSweep(TinySweep("s-", 30000), "")->id;
  server_->Await(id, [](const JobRow& job) { return job.progress > 0.1; });
  server_->runner->Stop();
  Close();
  Open();
  const JobRow end = server_->AwaitEnd(id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  ExpectAsAlone("s-", 30000);
}

TEST_F(TrainingJobTest, AfterKillASweepEndsAsWithoutIt) {
  Open(false);
  SweepJob sweep = TinySweep("s-", 60000);
  for (TrainingJob& member : sweep.members) member.training.checkpoint_steps = 40;
  const std::string id = server_->queue->SubmitSweep(sweep, "")->id;
  Close();
  RunUntilKilled(dir_ / "data", id, "attempt = 1 AND progress >= 0.2");
  RunUntilKilled(dir_ / "data", id, "attempt = 2 AND progress >= 0.5");
  Open();
  const JobRow end = server_->AwaitEnd(id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  ExpectAsAlone("s-", 60000, 40);
}

TEST_F(TrainingJobTest, ACrashBetweenAdoptingMembersIsContinued) {
  Open(false);
  JobRow row;
  row.id = "01crash";
  row.spec = ToJson(TinySweep("s-"));
  RunContext context;
  context.device = server_->device.get();
  context.work_dir = server_->catalog->JobDir(row.id) + "/work";
  ASSERT_TRUE(EnsureDir(context.work_dir).ok());
  int points = 0;
  context.on_metrics = [&points](const RunMetrics&) { ++points; };
  ASSERT_TRUE(RunSweepJob(server_->catalog.get(), row, context).ok());
  const std::string a = HashOf("s-a"), b = HashOf("s-b");
  // All is done: nothing is trained again.
  points = 0;
  ASSERT_TRUE(RunSweepJob(server_->catalog.get(), row, context).ok());
  EXPECT_EQ(points, 0);
  // One had left the job's directory, but not reached the catalog.
  ASSERT_TRUE(server_->catalog->DeleteSae("s-b").ok());
  const absl::Status again = RunSweepJob(server_->catalog.get(), row, context);
  ASSERT_TRUE(again.ok()) << again;
  EXPECT_EQ(HashOf("s-a"), a);
  EXPECT_EQ(HashOf("s-b"), b);
  // An id that somebody else has taken meanwhile is said.
  ASSERT_TRUE(server_->catalog->DeleteSae("s-b").ok());
  ASSERT_TRUE(server_->catalog->AddSae("s-b", dir_ / "s", {"m", "", false}).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(RunSweepJob(server_->catalog.get(), row, context)));
}

TEST_F(TrainingJobTest, SubmissionOfASweepFindsMistakesAtOnce) {
  Open(false);
  const auto message = [this](const std::function<void(SweepJob*)>& change) {
    const absl::Status status = SubmitSweep(change);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(message([](SweepJob* s) { s->members.clear(); }), HasSubstr("1 to 64"));
  EXPECT_THAT(message([](SweepJob* s) { s->members.resize(65, s->members[0]); }), HasSubstr("65"));
  EXPECT_THAT(message([](SweepJob* s) { s->members[2].sae_id = "a"; }),
              HasSubstr("two members have the sae_id a"));
  EXPECT_THAT(message([](SweepJob* s) { s->members[1].training.k = 33; }), HasSubstr("b: k is 33"));
  EXPECT_THAT(message([](SweepJob* s) { s->members[1].training.seed = 8; }),
              HasSubstr("members a and b differ in seed"));
  EXPECT_THAT(message([](SweepJob* s) { s->members[2].training.batch_size = 64; }),
              HasSubstr("members a and c differ in batch_size"));
  EXPECT_THAT(message([](SweepJob* s) { s->members[1].training.tokens = 1; }),
              HasSubstr("differ in tokens"));
  EXPECT_THAT(message([](SweepJob* s) { s->members[1].corpus_id = "d"; }),
              HasSubstr("differ in corpus_id"));
  EXPECT_THAT(message([](SweepJob* s) {
                s->members[1].more_corpora = {{"c", 1}};
              }),
              HasSubstr("differ in more_corpora"));
  EXPECT_TRUE(absl::IsAlreadyExists(SubmitSweep([](SweepJob* s) { s->members[1].sae_id = "s"; })));
  EXPECT_TRUE(server_->queue->List({}, 10, "")->jobs.empty());
}

TEST_F(TrainingJobTest, EveryIdOfASweepIsReserved) {
  Open(false);
  const std::string id = server_->queue->SubmitSweep(TinySweep(""), "")->id;
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_TRUE(absl::IsAlreadyExists(Submit([&](TrainingJob* j) { j->sae_id = name; }))) << name;
  }
  EXPECT_TRUE(absl::IsAlreadyExists(SubmitSweep([](SweepJob* s) {
    s->members.resize(2);
    s->members[0].sae_id = "x", s->members[1].sae_id = "c";
  })));
  EXPECT_TRUE(absl::IsFailedPrecondition(server_->catalog->DeleteCorpus("c")));
  ASSERT_TRUE(server_->queue->Cancel(id).ok());
  ASSERT_TRUE(Submit([](TrainingJob* j) { j->sae_id = "b"; }).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(SubmitSweep([](SweepJob*) {})));
}

TEST_F(TrainingJobTest, MoreMemoryThanThereIsIsRefusedWithWhatWouldFit) {
  Open(false);
  TrainingJob job = TinyTraining("new");
  job.training.buffer_tokens = uint64_t{1} << 40;
  const absl::Status refused = server_->queue->SubmitTraining(job, "").status();
  ASSERT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  const std::string message(refused.message());
  const size_t at = message.find("buffer_tokens ");
  ASSERT_NE(at, std::string::npos) << message;
  ASSERT_TRUE(absl::SimpleAtoi(message.substr(at + 14, message.find(' ', at + 14) - at - 14),
                               &job.training.buffer_tokens))
      << message;
  const auto plan = MakeTrainingPlan(server_->catalog.get(), {&job, 1});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LE(plan->memory_bytes, plan->available_bytes);
  EXPECT_GT(plan->memory_bytes, plan->available_bytes / 2);
  // The stream is held once: another SAE takes little more.
  job.training.buffer_tokens = job.training.buffer_tokens / 8 * 7;
  std::vector<TrainingJob> members = {job, job};
  members[1].sae_id = "other";
  const auto two = MakeTrainingPlan(server_->catalog.get(), members);
  ASSERT_TRUE(two.ok()) << two.status();
  // Many large ones do not fit together.
  members.clear();
  job.training.buffer_tokens = 1024;
  job.training.d_sae = 4096;
  const uint64_t small = MakeTrainingPlan(server_->catalog.get(), {&job, 1})->memory_bytes;
  const double times = static_cast<double>(plan->available_bytes) / 8 / static_cast<double>(small);
  job.training.d_sae = std::min<int64_t>(static_cast<int64_t>(4096 * times), 1 << 24);
  const uint64_t large = MakeTrainingPlan(server_->catalog.get(), {&job, 1})->memory_bytes;
  for (size_t i = 0; i <= plan->available_bytes / large + 1; ++i) {
    members.push_back(job);
    members.back().sae_id = absl::StrCat("m", i);
  }
  ASSERT_LE(members.size(), kMaxSweepMembers);
  const absl::Status many = MakeTrainingPlan(server_->catalog.get(), members).status();
  ASSERT_TRUE(absl::IsInvalidArgument(many)) << many;
  const std::string text(many.message());
  const size_t first = text.find("the first ");
  size_t fit = 0;
  ASSERT_TRUE(
      first != std::string::npos &&
      absl::SimpleAtoi(text.substr(first + 10, text.find(' ', first + 10) - first - 10), &fit))
      << text;
  members.resize(fit);
  EXPECT_TRUE(MakeTrainingPlan(server_->catalog.get(), members).ok());
}

TEST_F(TrainingJobTest, APlanHasEveryDefaultFilledIn) {
  Open(false);
  const auto plan = MakeTrainingPlan(server_->catalog.get(), TinySweep("").members);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->steps, 47u);  // of 6000 tokens by 128
  ASSERT_EQ(plan->resolved.size(), 3u);
  EXPECT_EQ(plan->resolved[1].sae_id, "b");
  EXPECT_GT(plan->resolved[1].training.learning_rate, 0);
  EXPECT_EQ(plan->resolved[2].training.sparsity_penalty, SparsityPenalty::kL1);
  EXPECT_TRUE(server_->queue->List({}, 10, "")->jobs.empty());
}

TEST_F(TrainingJobTest, EveryPresetPlansAtReducedSize) {
  Open(false);
  for (const Preset& preset : AllPresets()) {
    TrainingJob job = TinyTraining("new");
    job.training = PresetSpec(preset.name).value();
    TrainingSpec& spec = job.training;
    spec.d_sae = 96, spec.expansion = 0;
    if (TraitsOf(spec).topk_family()) spec.k = 4;
    spec.k_aux = std::min<int64_t>(spec.k_aux, 16);
    spec.tokens = 100'000'000, spec.epochs = 0;
    if (TraitsOf(spec).transcoder) job.hook_name_out = "blocks.1.hook_resid_post";
    const auto plan = MakeTrainingPlan(server_->catalog.get(), {&job, 1});
    EXPECT_TRUE(plan.ok()) << preset.name << ": " << plan.status();
  }
}

TEST_F(TrainingJobTest, ATranscoderLandsWithBothHooks) {
  Open();
  TrainingJob job = TinyTraining("new");
  job.training.architecture = "topk_skip_transcoder";
  const auto change = [&](const std::string& in, const std::string& out) {
    TrainingJob other = job;
    other.hook_name = in, other.hook_name_out = out;
    return server_->queue->SubmitTraining(other, "").status();
  };
  const std::string mid = "blocks.1.hook_resid_mid";
  EXPECT_THAT(std::string(change(mid, "").message()), HasSubstr("hook_name_out"));
  EXPECT_THAT(std::string(change(mid, "blocks").message()), HasSubstr("hook_name_out"));
  EXPECT_THAT(std::string(change(kHook, mid).message()), HasSubstr("before"));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Submit([&](TrainingJob* j) { j->hook_name_out = mid; })));  // of a topk
  job.hook_name = mid, job.hook_name_out = "blocks.1.hook_mlp_out";
  const SaeRow sae = Train(job);
  EXPECT_EQ(sae.hook_name, mid);
  EXPECT_EQ(sae.hook_name_out, "blocks.1.hook_mlp_out");
  EXPECT_FALSE(sae.vectors_only);
}

TEST_F(TrainingJobTest, AMixtureOfCorporaIsCheckedAndKept) {
  Open(false);
  WriteTinyText(dir_ / "more.jsonl", 100);
  AddCorpusOptions options;
  options.paths = {dir_ / "more.jsonl"};
  options.model_id = "m";
  ASSERT_TRUE(server_->catalog->AddCorpus("d", options, nullptr, CancelToken()).ok());
  const auto mixed = [this](const std::string& id, double weight) {
    return Submit([&](TrainingJob* j) { j->more_corpora = {{id, weight}}; });
  };
  EXPECT_TRUE(absl::IsNotFound(mixed("none", 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(mixed("d", -1)));
  ASSERT_TRUE(mixed("d", 3).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(server_->catalog->DeleteCorpus("d")));
  const std::string id = server_->queue->List({}, 1, "")->jobs[0].id;
  server_->Start();
  EXPECT_EQ(server_->AwaitEnd(id).state, JobState::kSucceeded);
}

TEST_F(TrainingJobTest, RawFilesAreTrainedOnWithoutACorpus) {
  Open();
  TrainingJob job = TinyTraining("new");
  job.corpus_id.clear();
  job.activation_files = {{{WriteRows("a.bin", 500), WriteRows("b.bin", 700)}, "float32", 0}};
  const auto refused = [&](const std::function<void(TrainingJob*)>& change) {
    TrainingJob bad = job;
    change(&bad);
    const absl::Status status = server_->queue->SubmitTraining(bad, "").status();
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  };
  EXPECT_THAT(refused([](TrainingJob* j) { j->corpus_id = "c"; }), HasSubstr("corpus"));
  EXPECT_THAT(refused([](TrainingJob* j) { j->activation_cache = "x"; }), HasSubstr("both"));
  EXPECT_THAT(refused([](TrainingJob* j) { j->activation_files[0].dtype = "f8"; }),
              HasSubstr("bfloat16"));
  EXPECT_THAT(refused([](TrainingJob* j) { j->activation_files[0].width = 8; }),
              HasSubstr("8 wide"));
  EXPECT_THAT(refused([](TrainingJob* j) { j->activation_files[0].paths = {"/none"}; }),
              HasSubstr("/none"));
  EXPECT_THAT(refused([](TrainingJob* j) { j->activation_files[0].paths.clear(); }),
              HasSubstr("0 files"));
  EXPECT_THAT(
      refused([](TrainingJob* j) { j->activation_files.resize(3, j->activation_files[0]); }),
      HasSubstr("channels"));
  EXPECT_EQ(Train(job).d_in, static_cast<uint32_t>(kTinyWidth));
}

TEST_F(TrainingJobTest, FilesOutsideTheAllowedRootsAreNotRead) {
  CatalogOptions options;
  options.allowed_roots = {dir_ / "."};
  const auto catalog = Catalog::Open(dir_ / "narrow", options).value();
  WriteTinyModel(dir_ / "m", true);
  ASSERT_TRUE(catalog->AddModel("m", dir_ / "m").ok());
  TrainingJob job = TinyTraining("new");
  job.corpus_id.clear();
  job.activation_files = {{{"/etc/passwd"}, "float32", 0}};
  const auto plan = MakeTrainingPlan(catalog.get(), {&job, 1});
  EXPECT_TRUE(absl::IsPermissionDenied(plan.status())) << plan.status();
  job.activation_files[0].paths = {WriteRows("a.bin", 500)};
  EXPECT_TRUE(MakeTrainingPlan(catalog.get(), {&job, 1}).ok());
}

TEST_F(TrainingJobTest, ACacheIsTrainedOnByItsId) {
  Open();
  TrainingJob job = TinyTraining("new");
  ActivationCacheSpec spec;
  spec.hooks = {HookPoint::Parse(kHook).value()};
  RunContext context;
  context.device = server_->device.get();
  const TrainingInputs inputs = LoadTrainingInputs(server_->catalog.get(), job).value();
  const std::string dir = server_->catalog->ActivationCacheDir("acts").value();
  ASSERT_TRUE(WriteActivationCache(inputs, spec, context, dir).ok());
  job.corpus_id.clear();
  job.activation_cache = "none";
  EXPECT_TRUE(absl::IsNotFound(server_->queue->SubmitTraining(job, "").status()));
  job.activation_cache = "acts";
  job.hook_name = "blocks.0.hook_resid_post";
  EXPECT_TRUE(absl::IsInvalidArgument(server_->queue->SubmitTraining(job, "").status()));
  job.hook_name = kHook;
  EXPECT_EQ(Train(job).hook_name, kHook);
}

TEST_F(TrainingJobTest, AdviceIsGivenForEachMember) {
  Open(false);
  const JobRow submitted = server_->queue->SubmitSweep(TinySweep(""), "").value();
  StateDb& state = server_->catalog->state();
  const JobRow claimed = state.ClaimJob()->value();
  std::vector<MetricRow> points;
  for (uint64_t step = 1; step <= 47; ++step) {
    points.push_back({step, step * 128, {{"a/l0", 1}, {"b/l0", 32}, {"c/l0", 5000}}});
  }
  ASSERT_TRUE(state.AppendMetrics(claimed.id, claimed.lease_epoch, points).ok());
  const auto advice = AdviseOnJob(server_->catalog.get(), submitted);
  ASSERT_TRUE(advice.ok()) << advice.status();
  std::set<std::string> rules;
  for (const MemberAdvice& each : *advice) rules.insert(each.sae_id + ":" + each.advice.rule);
  EXPECT_TRUE(rules.contains("a:l0_low"));
  EXPECT_TRUE(rules.contains("c:l0_high"));
  EXPECT_FALSE(rules.contains("b:l0_low") || rules.contains("b:l0_high"));
  const JobRow indexing = server_->queue->SubmitIndexing(TinyIndexing(), "").value();
  EXPECT_TRUE(absl::IsInvalidArgument(AdviseOnJob(server_->catalog.get(), indexing).status()));
}

}  // namespace
}  // namespace featurescope
