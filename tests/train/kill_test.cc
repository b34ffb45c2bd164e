// Training runs that are killed (SIGKILL) again and again end with the same result, to the last
// bit, as those that are not: of every architecture, alone and in sweeps, from each kind of source.
// The victim is this test program itself, started anew.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "server/sae/architectures.h"
#include "server/sae/sae_files.h"
#include "server/train/activation_cache.h"
#include "server/train/activation_files.h"
#include "server/train/checkpoint.h"
#include "server/train/run_training.h"
#include "tests/train/training_fixture.h"

extern char** environ;

namespace featurescope {
namespace {

constexpr char kVictimDir[] = "FEATURESCOPE_TEST_VICTIM_DIR";
constexpr char kVictimRun[] = "FEATURESCOPE_TEST_VICTIM_RUN";
constexpr int64_t kCheckpointSteps = 4;

TrainingSpec SpecOf(const std::string& architecture) {
  TrainingSpec spec = TinySpec();
  spec.architecture = architecture;
  spec.tokens = 32 * 48;
  spec.checkpoint_steps = kCheckpointSteps;
  spec.threshold_start_step = 5;
  spec.initial_threshold = 0.05;
  spec.bandwidth = 0.2;
  if (!TraitsOf(spec).topk_family()) spec.k = 0;
  if (architecture == "standard") {  // and dead features are resampled, also between checkpoints
    spec.resample_tokens = 32 * 10;
    spec.resample_dead_after_tokens = 64;
    spec.resample_from_tokens = 32 * 7;
    spec.l1_coefficient = 100;
  }
  return spec;
}

struct Training {
  TrainingInputs inputs;
  std::vector<std::string> architectures;  // one: not a sweep
};

TrainingInputs ModelInputs(const std::string& directory) {
  TrainingInputs inputs = TinyModelInputs();
  inputs.corpus = TokenFile::Open(directory + "/corpus").value();
  return inputs;
}

// Inputs and targets of two widths.
TrainingInputs RawInputs(const std::string& directory) {
  ActivationFiles::Channel x;
  x.dtype = DType::kF32;
  x.width = 16;
  x.paths = {directory + "/x.bin"};
  ActivationFiles::Channel y = x;
  y.width = 5;
  y.paths = {directory + "/y.bin"};
  TrainingInputs inputs;
  inputs.hook = HookPoint::Parse("blocks.3.ln2.hook_normalized").value();
  inputs.hook_out = HookPoint::Parse("blocks.3.hook_mlp_out").value();
  inputs.activations = ActivationFiles::OpenRaw({x, y}).value();
  return inputs;
}

Training MakeRun(const std::string& name, const std::string& directory) {
  Training run;
  if (name == "all_in_one_sweep") {
    run.inputs = ModelInputs(directory);
    run.architectures = {"standard",        "topk",
                         "batchtopk",       "matryoshka_batchtopk",
                         "jumprelu",        "gated",
                         "skip_transcoder", "topk_transcoder",
                         "transcoder",      "jumprelu_skip_transcoder"};
  } else if (name == "alone") {
    run.inputs = ModelInputs(directory);
    run.architectures = {"batchtopk"};
  } else if (name == "cache") {
    run.inputs.hook = TinyModelInputs().hook;
    run.inputs.activations = ActivationFiles::OpenCache(directory + "/cache").value();
    run.architectures = {"topk", "standard"};
  } else {
    run.inputs = RawInputs(directory);
    run.architectures = {"topk_skip_transcoder"};
  }
  return run;
}

std::string OutputOf(const std::string& prefix, const std::string& architecture) {
  return prefix + "_sae_" + architecture;
}

// Where a member's checkpoints lie.
std::string WorkOf(const Training& run, const std::string& prefix, size_t member) {
  const std::string work = prefix + "_work";
  return run.architectures.size() == 1 ? work : work + "/" + run.architectures[member];
}

absl::Status Train(const Training& run, const std::string& prefix) {
  DeviceWorker device{DeviceWorkerOptions()};
  RunContext ctx;
  ctx.device = &device;
  ctx.work_dir = prefix + "_work";
  if (run.architectures.size() == 1) {
    return RunTraining(run.inputs, SpecOf(run.architectures[0]), ctx,
                       OutputOf(prefix, run.architectures[0]));
  }
  std::vector<SweepMember> members;
  for (const std::string& architecture : run.architectures) {
    SweepMember member;
    member.name = architecture;
    member.spec = SpecOf(architecture);
    member.output_dir = OutputOf(prefix, architecture);
    if (TraitsOf(member.spec).transcoder) {
      member.hook = HookPoint::Parse("blocks.1.hook_resid_mid").value();
      member.hook_out = HookPoint::Parse("blocks.1.mlp.hook_post").value();
    }
    members.push_back(std::move(member));
  }
  return RunSweep(run.inputs, members, ctx);
}

// In the process that is to be killed, takes the place of all tests.
class Victim : public testing::Environment {
 public:
  void SetUp() override {
    const char* directory = std::getenv(kVictimDir);
    if (directory == nullptr) return;
    const std::string name = std::getenv(kVictimRun);
    const absl::Status status =
        Train(MakeRun(name, directory), std::string(directory) + "/" + name + "_killed");
    std::_Exit(status.ok() ? 0 : 1);
  }
};
const testing::Environment* const kVictim = testing::AddGlobalTestEnvironment(new Victim);

pid_t StartVictim() {
  std::string self = "/proc/self/exe";
  std::vector<char*> arguments = {self.data(), nullptr};
  pid_t pid = -1;
  EXPECT_EQ(::posix_spawn(&pid, self.c_str(), nullptr, nullptr, arguments.data(), environ), 0);
  return pid;
}

int64_t NewestCheckpoint(const std::string& work) {
  const std::vector<int64_t> steps = CheckpointSteps(work);
  return steps.empty() ? 0 : steps[0];
}

// Waits until the process ends (true) or a member has got on by so many checkpoints.
bool WaitFor(pid_t pid, const std::string& work, int checkpoints, int* status) {
  const int64_t enough = NewestCheckpoint(work) + kCheckpointSteps * checkpoints;
  while (NewestCheckpoint(work) < enough) {
    const pid_t ended = ::waitpid(pid, status, WNOHANG);
    if (ended != 0) return true;
    ::usleep(200);
  }
  return false;
}

class KillTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    TrainingInputs inputs = TinyInputs(directory_ / "corpus");
    DeviceWorker device{DeviceWorkerOptions()};
    RunContext ctx;
    ctx.device = &device;
    ctx.work_dir = directory_ / "cache_work";
    ActivationCacheSpec cache;
    cache.hooks = {inputs.hook};
    ASSERT_TRUE(WriteActivationCache(inputs, cache, ctx, directory_ / "cache").ok());
    torch::manual_seed(2);
    WriteRows("x.bin", torch::randn({700, 16}));
    WriteRows("y.bin", torch::randn({700, 5}));
  }
  void WriteRows(const std::string& name, const torch::Tensor& rows) {
    std::ofstream(directory_ / name, std::ios::binary)
        .write(static_cast<const char*>(rows.data_ptr()), static_cast<int64_t>(rows.nbytes()));
  }

  TempDir directory_;
};

// Killed in turn as soon as the first member of a sweep has a new checkpoint, which the others do
// not have yet, and after one or two checkpoints of the last.
TEST_P(KillTest, KillingARunDoesNotChangeASingleBit) {
  const std::string name = GetParam();
  const Training run = MakeRun(name, directory_.path());
  const std::string whole = directory_ / (name + "_whole");
  const std::string killed = directory_ / (name + "_killed");
  ASSERT_TRUE(Train(run, whole).ok());
  ASSERT_EQ(::setenv(kVictimDir, directory_.path().c_str(), 1), 0);
  ASSERT_EQ(::setenv(kVictimRun, name.c_str(), 1), 0);
  int kills = 0;
  for (int start = 0; start < 30; ++start) {
    const pid_t pid = StartVictim();
    ASSERT_GT(pid, 0);
    const size_t member = start % 3 == 0 ? 0 : run.architectures.size() - 1;
    int status = 0;
    if (!WaitFor(pid, WorkOf(run, killed, member), 1 + start % 3, &status)) {
      ASSERT_EQ(::kill(pid, SIGKILL), 0);
      ::waitpid(pid, &status, 0);
    }
    if (WIFEXITED(status)) {
      ASSERT_EQ(WEXITSTATUS(status), 0);
      break;
    }
    ++kills;
  }
  ::unsetenv(kVictimDir);
  EXPECT_GE(kills, 3);
  for (const std::string& architecture : run.architectures) {
    const auto one = LoadSae(OutputOf(whole, architecture), torch::kCPU);
    const auto other = LoadSae(OutputOf(killed, architecture), torch::kCPU);
    ASSERT_TRUE(one.ok() && other.ok()) << architecture << " " << other.status();
    for (const SaeParameterSpec& parameter : kSaeParameterSpecs) {
      const torch::Tensor& value = (*one)->parameters().*parameter.tensor;
      if (!value.defined()) continue;
      EXPECT_TRUE(torch::equal(value, (*other)->parameters().*parameter.tensor))
          << architecture << " " << parameter.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, KillTest,
                         testing::Values("all_in_one_sweep", "alone", "cache", "raw"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace featurescope
