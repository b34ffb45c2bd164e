// A training run that is killed (SIGKILL) again and again ends with the same result, to the last
// bit, as one that is not. The victim is this test program itself, started anew.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "server/sae/architectures.h"
#include "server/sae/sae_files.h"
#include "server/train/checkpoint.h"
#include "server/train/run_training.h"
#include "tests/train/training_fixture.h"

extern char** environ;

namespace featurescope {
namespace {

constexpr char kVictimDir[] = "FEATURESCOPE_TEST_VICTIM_DIR";

TrainingSpec VictimSpec() {
  TrainingSpec spec = TinySpec();
  spec.architecture = "batchtopk";
  spec.tokens = 32 * 48;
  spec.checkpoint_steps = 4;
  spec.threshold_start_step = 5;
  return spec;
}

absl::Status Train(const std::string& directory, const std::string& name) {
  TrainingInputs inputs = TinyModelInputs();
  inputs.corpus = TokenFile::Open(directory + "/corpus").value();
  DeviceWorker device{DeviceWorkerOptions()};
  RunContext ctx;
  ctx.device = &device;
  ctx.work_dir = directory + "/" + name + "_work";
  return RunTraining(inputs, VictimSpec(), ctx, directory + "/" + name);
}

// Run by the test below only, in a process of its own.
TEST(KillVictim, DISABLED_Trains) {
  const char* directory = std::getenv(kVictimDir);
  ASSERT_NE(directory, nullptr);
  EXPECT_TRUE(Train(directory, "killed").ok());
}

pid_t StartVictim() {
  std::string self = "/proc/self/exe";
  std::string filter = "--gtest_filter=KillVictim.DISABLED_Trains";
  std::string disabled = "--gtest_also_run_disabled_tests";
  std::vector<char*> arguments = {self.data(), filter.data(), disabled.data(), nullptr};
  pid_t pid = -1;
  EXPECT_EQ(::posix_spawn(&pid, self.c_str(), nullptr, nullptr, arguments.data(), environ), 0);
  return pid;
}

int64_t NewestCheckpoint(const std::string& directory) {
  const std::vector<int64_t> steps = CheckpointSteps(directory + "/killed_work");
  return steps.empty() ? 0 : steps[0];
}

TEST(KillTest, KillingARunDoesNotChangeASingleBit) {
  TempDir directory;
  TinyInputs(directory / "corpus");
  ASSERT_TRUE(Train(directory.path(), "whole").ok());
  ASSERT_EQ(::setenv(kVictimDir, directory.path().c_str(), 1), 0);
  int kills = 0;
  for (int start = 0; start < 30; ++start) {
    const pid_t pid = StartVictim();
    ASSERT_GT(pid, 0);
    // Kill it as soon as it has got on by two checkpoints or three.
    const int64_t enough = NewestCheckpoint(directory.path()) + 4 * (2 + start % 2);
    int status = 0;
    pid_t ended = 0;
    while (ended == 0 && NewestCheckpoint(directory.path()) < enough) {
      ended = ::waitpid(pid, &status, WNOHANG);
    }
    if (ended == 0) {
      ASSERT_EQ(::kill(pid, SIGKILL), 0);
      ::waitpid(pid, &status, 0);
    }
    if (WIFEXITED(status)) {
      ASSERT_EQ(WEXITSTATUS(status), 0);
      break;
    }
    ++kills;
  }
  EXPECT_GE(kills, 3);
  const auto whole = LoadSae(directory / "whole", torch::kCPU).value();
  const auto killed = LoadSae(directory / "killed", torch::kCPU);
  ASSERT_TRUE(killed.ok()) << killed.status();
  for (const SaeParameterSpec& parameter : kSaeParameterSpecs) {
    const torch::Tensor& one = whole->parameters().*parameter.tensor;
    if (one.defined()) {
      EXPECT_TRUE(torch::equal(one, (*killed)->parameters().*parameter.tensor)) << parameter.name;
    }
  }
}

}  // namespace
}  // namespace featurescope
