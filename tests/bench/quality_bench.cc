// How good the SAEs are that training makes: one table per language model, and one of known
// directions.
//
//   quality_bench [demo|stories|mixture]... [only=ARCHITECTURE,...] [ARCHITECTURE.FIELD=VALUE]...
//
// Without names, all three. A field of the language models' TrainingSpecs is set for one
// architecture, or with `all` for every one, e.g. standard.l1_coefficient=3.
//
// demo     the demo model (deploy/demo), the residual stream after block 3, transcoders on its MLP
// stories  stories260K in $FEATURESCOPE_SHARED/data (default ../shared), skipped where absent
// mixture  sums of a few known directions: mean over them of the largest cosine with a decoder row
//
// All SAEs of one language model are trained in one sweep, on one pass through its activations, and
// measured on held-out documents by the evaluation that users run. Prints markdown.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/explore/evaluation.h"
#include "server/sae/sae_files.h"
#include "server/tensor/blas.h"
#include "server/text/corpus_builder.h"
#include "server/text/tokenizer.h"
#include "server/train/run_training.h"
#include "server/train/spec_fields.h"
#include "tests/base/temp_dir.h"
#include "tests/train/synthetic_mixture.h"

namespace featurescope {
namespace {

// A field of one architecture's spec, as given on the command line.
struct Setting {
  std::string architecture;  // or "all"
  std::string field;
  std::string value;
};

template <typename T>
bool ParseValue(const std::string& text, T* value) {
  if constexpr (std::is_same_v<T, bool>) {
    return absl::SimpleAtob(text, value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    *value = text;
    return true;
  } else if constexpr (std::is_arithmetic_v<T>) {
    double number = 0;
    if (!absl::SimpleAtod(text, &number)) return false;
    *value = static_cast<T>(number);
    return true;
  } else if constexpr (std::is_enum_v<T>) {
    const std::optional<T> found = FindEnum<T>(text);
    if (found) *value = *found;
    return found.has_value();
  } else {
    return false;  // a list
  }
}
template <typename T>
bool ParseValue(const std::string& text, std::optional<T>* value) {
  return ParseValue(text, &value->emplace());
}

absl::Status Apply(const Setting& setting, TrainingSpec* spec) {
  if (setting.architecture != "all" && setting.architecture != spec->architecture) {
    return absl::OkStatus();
  }
  bool done = false;
  VisitTrainingSpec(*spec, [&](absl::string_view name, auto& field) {
    if (name == setting.field) done = ParseValue(setting.value, &field);
  });
  if (done) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("cannot set ", setting.field, " to ", setting.value));
}

struct Request {
  std::vector<std::string> subjects;
  std::vector<std::string> architectures = {"standard",        "gated",
                                            "jumprelu",        "topk",
                                            "batchtopk",       "matryoshka_batchtopk",
                                            "transcoder",      "skip_transcoder",
                                            "topk_transcoder", "jumprelu_transcoder"};
  std::vector<Setting> settings;
};

struct Subject {
  std::string name;
  std::string model_dir;
  std::string corpus_file;
  std::string hook;
  std::string mlp_in;  // transcoders read this
  std::string mlp_out;
  uint32_t context_size;
  uint64_t tokens;  // trained on
  int64_t batch_size;
  int64_t d_sae;
  int64_t l0;  // what all are to have: k, target_l0, or about
  // Which bring the others near it.
  double standard_l1;
  double gated_l1;
  double transcoder_l1;
};

constexpr double kHoldout = 0.1;
constexpr uint64_t kEvaluatedTokens = 4096;
constexpr double kLearningRate = 1e-3;

std::string SharedDirectory() {
  const char* shared = std::getenv("FEATURESCOPE_SHARED");
  return shared != nullptr ? shared : std::string(FEATURESCOPE_SOURCE_DIR) + "/../shared";
}

std::vector<Subject> Subjects() {
  const std::string demo = std::string(FEATURESCOPE_SOURCE_DIR) + "/deploy/demo";
  const std::string shared = SharedDirectory() + "/data";
  return {{"demo", demo, demo + "/corpus.jsonl", "blocks.3.hook_resid_post",
           "blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out", 128, 150'000, 256, 1024, 32,
           3.0, 2.5, 2.0},
          {"stories", shared + "/stories260K", shared + "/corpora/tinystories_1000.jsonl",
           "blocks.2.hook_resid_post", "blocks.2.ln2.hook_normalized", "blocks.2.hook_mlp_out", 128,
           250'000, 256, 512, 16, 2.5, 2.0, 1.7}};
}

SweepMember MakeMember(const Subject& subject, const std::string& architecture) {
  SweepMember member;
  member.name = architecture;
  TrainingSpec& spec = member.spec;
  spec.architecture = architecture;
  spec.d_sae = subject.d_sae;
  spec.tokens = subject.tokens;
  spec.batch_size = subject.batch_size;
  spec.learning_rate = kLearningRate;
  const ArchitectureTraits traits = TraitsOf(spec);
  if (traits.topk_family()) spec.k = subject.l0;
  spec.target_l0 = static_cast<double>(subject.l0);
  spec.l1_coefficient = traits.transcoder                           ? subject.transcoder_l1
                        : traits.family == ActivationFamily::kGated ? subject.gated_l1
                                                                    : subject.standard_l1;
  if (traits.transcoder) {
    member.hook = HookPoint::Parse(subject.mlp_in).value();
    member.hook_out = HookPoint::Parse(subject.mlp_out).value();
  }
  return member;
}

absl::Status PrintRow(const SweepMember& member, const TrainingInputs& inputs,
                      const RunContext& ctx) {
  EvaluationInputs of;
  of.sae_id = member.name;
  of.model = inputs.model;
  ASSIGN_OR_RETURN(of.sae, LoadSae(member.output_dir, torch::kCPU));
  of.hook = member.hook.value_or(inputs.hook);
  of.hook_out = member.hook_out;
  of.corpus = inputs.corpus;
  of.special_tokens = inputs.special_tokens;
  EvaluationSpec spec;
  spec.part = EvaluationPart::kHeldOut;
  spec.max_tokens = kEvaluatedTokens;
  ASSIGN_OR_RETURN(const EvaluationResult result, Evaluate(of, spec, ctx));
  const auto& m = result.metrics;
  std::printf("| %s | %.1f | %.3f | %.3f | %.3f | %.1f %% |\n", member.name.c_str(), m.at("l0"),
              m.at("explained_variance"), m.at("ce_loss_recovered"), m.at("kl_sae"),
              100 * m.at("dead_share"));
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::StatusOr<TrainingInputs> OpenSubject(const Subject& subject, const std::string& directory) {
  TrainingInputs inputs;
  ASSIGN_OR_RETURN(inputs.model, Transformer::Load(subject.model_dir, LoadOptions()));
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(subject.model_dir));
  for (uint32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    if (tokenizer->IsSpecial(id)) inputs.special_tokens.push_back(id);
  }
  CorpusSpec corpus;
  corpus.paths = {subject.corpus_file};
  corpus.context_size = subject.context_size;
  corpus.holdout = kHoldout;
  corpus.vocab_size = static_cast<uint32_t>(inputs.model->config().d_vocab);
  ASSIGN_OR_RETURN(
      const CorpusSummary summary,
      BuildCorpus(corpus, *tokenizer, directory + "/corpus", CorpusObserver(), CancelToken()));
  std::printf("\n%s: %llu tokens, %llu of them held out; ", subject.name.c_str(),
              static_cast<unsigned long long>(summary.n_tokens),
              static_cast<unsigned long long>(summary.n_heldout_tokens));
  ASSIGN_OR_RETURN(inputs.corpus, TokenFile::Open(directory + "/corpus"));
  ASSIGN_OR_RETURN(inputs.hook, HookPoint::Parse(subject.hook));
  inputs.model_name = subject.name;
  return inputs;
}

absl::Status RunSubject(const Subject& subject, const Request& request) {
  if (!std::filesystem::exists(subject.model_dir + "/config.json") ||
      !std::filesystem::exists(subject.corpus_file)) {
    std::printf("\n%s: SKIPPED, no %s or %s\n", subject.name.c_str(), subject.model_dir.c_str(),
                subject.corpus_file.c_str());
    return absl::OkStatus();
  }
  const TempDir directory;
  ASSIGN_OR_RETURN(const TrainingInputs inputs, OpenSubject(subject, directory.path()));
  std::printf(
      "%s, d_sae %lld, %llu tokens in batches of %lld, L0 aimed at %lld, learning rate %g\n",
      subject.hook.c_str(), static_cast<long long>(subject.d_sae),
      static_cast<unsigned long long>(subject.tokens), static_cast<long long>(subject.batch_size),
      static_cast<long long>(subject.l0), kLearningRate);
  std::vector<SweepMember> members;
  for (const std::string& architecture : request.architectures) {
    members.push_back(MakeMember(subject, architecture));
    members.back().output_dir = absl::StrCat(directory.path(), "/", architecture);
    for (const Setting& setting : request.settings) {
      RETURN_IF_ERROR(Apply(setting, &members.back().spec));
    }
  }
  DeviceWorker device{DeviceWorkerOptions()};
  RunContext ctx;
  ctx.device = &device;
  ctx.work_dir = directory.path() + "/work";
  const absl::Time start = absl::Now();
  RETURN_IF_ERROR(RunSweep(inputs, members, ctx));
  const absl::Time trained = absl::Now();
  std::printf(
      "\n| %s | L0 | explained variance | CE loss recovered | KL, nats | dead |\n"
      "|---|---|---|---|---|---|\n",
      subject.name.c_str());
  for (const SweepMember& member : members) RETURN_IF_ERROR(PrintRow(member, inputs, ctx));
  std::printf("\ntrained in %.0f s, measured in %.0f s\n", absl::ToDoubleSeconds(trained - start),
              absl::ToDoubleSeconds(absl::Now() - trained));
  return absl::OkStatus();
}

void RunMixture() {
  std::printf(
      "\n%lld of %lld directions a token, in %lld dimensions; %lld features\n\n"
      "| mixture | mean max cosine | L0 | explained variance |\n|---|---|---|---|\n",
      static_cast<long long>(mixture::kActive), static_cast<long long>(mixture::kDirections),
      static_cast<long long>(mixture::kWidth), static_cast<long long>(mixture::kFeatures));
  for (const MixtureRecipe& recipe : kMixtureRecipes) {
    const Recovery recovery = RecoverMixture(recipe);
    std::printf("| %s | %.3f | %.1f | %.3f |\n", recipe.architecture, recovery.mean_max_cosine,
                recovery.last.l0, 1 - recovery.last.mse / recovery.last.total_variance);
    std::fflush(stdout);
  }
}

Request ParseRequest(const std::vector<std::string>& arguments) {
  Request request;
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    const size_t dot = argument.find('.');
    if (absl::StartsWith(argument, "only=")) {
      request.architectures = absl::StrSplit(argument.substr(5), ',');
    } else if (equals != std::string::npos && dot < equals) {
      request.settings.push_back({argument.substr(0, dot),
                                  argument.substr(dot + 1, equals - dot - 1),
                                  argument.substr(equals + 1)});
    } else {
      request.subjects.push_back(argument);
    }
  }
  if (request.subjects.empty()) request.subjects = {"mixture", "stories", "demo"};
  return request;
}

int Run(const Request& request) {
  for (const std::string& name : request.subjects) {
    bool known = name == "mixture";
    if (known) RunMixture();
    for (const Subject& subject : Subjects()) {
      if (subject.name != name) continue;
      known = true;
      if (const absl::Status status = RunSubject(subject, request); !status.ok()) {
        std::fprintf(stderr, "%s: %s\n", name.c_str(), status.ToString().c_str());
        return 1;
      }
    }
    if (!known) {
      std::fprintf(stderr,
                   "usage: quality_bench [demo|stories|mixture]... [only=ARCHITECTURE,...] "
                   "[ARCHITECTURE.FIELD=VALUE]...\n");
      return 2;
    }
  }
  return 0;
}

}  // namespace
}  // namespace featurescope

int main(int argc, char** argv) {
  featurescope::CorrectBlasKernels();
  return featurescope::Run(
      featurescope::ParseRequest(std::vector<std::string>(argv + 1, argv + argc)));
}
