#include "server/jobs/training_job.h"

#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/jobs/job_inputs.h"
#include "server/train/run_training.h"

namespace featurescope {
namespace {

std::string ResultDir(const Catalog& catalog, const JobRow& job) {
  return JoinPath(catalog.JobDir(job.id), "result");
}

bool SameCorpora(const TrainingJob& a, const TrainingJob& b) {
  if (a.more_corpora.size() != b.more_corpora.size()) return false;
  if (!a.more_corpora.empty() && a.corpus_weight != b.corpus_weight) return false;
  for (size_t i = 0; i < a.more_corpora.size(); ++i) {
    if (a.more_corpora[i].corpus_id != b.more_corpora[i].corpus_id ||
        a.more_corpora[i].weight != b.more_corpora[i].weight) {
      return false;
    }
  }
  return true;
}

bool SameFiles(const TrainingJob& a, const TrainingJob& b) {
  if (a.activation_files.size() != b.activation_files.size()) return false;
  for (size_t i = 0; i < a.activation_files.size(); ++i) {
    const RawChannel& x = a.activation_files[i];
    const RawChannel& y = b.activation_files[i];
    if (x.paths != y.paths || x.dtype != y.dtype || x.width != y.width) return false;
  }
  return a.activation_cache == b.activation_cache;
}

// That two members, not resolved yet, read the same.
absl::Status CheckSameInputs(const TrainingJob& a, const TrainingJob& b) {
  const auto differ = [&](const char* field) {
    return InvalidField(field, "members ", a.sae_id, " and ", b.sae_id, " differ in ", field,
                        ", but one stream feeds them");
  };
  if (a.model_id != b.model_id) return differ("model_id");
  if (a.corpus_id != b.corpus_id) return differ("corpus_id");
  if (!SameCorpora(a, b)) return differ("more_corpora");
  if (!SameFiles(a, b)) return differ("activations");
  // Raw files do not say which hook point they are of.
  if (!a.activation_files.empty()) {
    if (a.hook_name != b.hook_name) return differ("hook_name");
    if (a.hook_name_out != b.hook_name_out) return differ("hook_name_out");
  }
  return absl::OkStatus();
}

absl::Status CheckIds(const Catalog& catalog, absl::Span<const TrainingJob> members) {
  std::set<std::string> ids;
  for (const TrainingJob& member : members) {
    RETURN_IF_ERROR(CheckId(member.sae_id, "the new SAE's id"));
    if (!ids.insert(member.sae_id).second) {
      return InvalidField("sae_id", "two members have the sae_id ", member.sae_id);
    }
    if (catalog.GetSae(member.sae_id).ok()) {
      return AlreadyExists("SAE \"", member.sae_id, "\" exists; train it under another id");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCorpora(const Catalog& catalog, const TrainingJob& job) {
  constexpr size_t kMaxMoreCorpora = 64;
  ASSIGN_OR_RETURN(const ModelRow model, catalog.GetModel(job.model_id));
  if (job.from_files()) return absl::OkStatus();
  if (job.more_corpora.size() > kMaxMoreCorpora) {
    return InvalidField("more_corpora", "there are ", job.more_corpora.size(),
                        " more corpora, at most ", kMaxMoreCorpora, " are possible");
  }
  ASSIGN_OR_RETURN(const CorpusRow corpus, catalog.GetCorpus(job.corpus_id));
  RETURN_IF_ERROR(CheckTokenizer(corpus, model));
  for (const MixedCorpus& mixed : job.more_corpora) {
    ASSIGN_OR_RETURN(const CorpusRow more, catalog.GetCorpus(mixed.corpus_id));
    RETURN_IF_ERROR(CheckTokenizer(more, model));
  }
  return absl::OkStatus();
}

// What the catalog asks of an SAE that it adopts: widths as the model has them, the output behind
// the input.
absl::Status CheckFitsModel(const ModelConfig& config, const TrainingInputs& inputs,
                            const TrainingWidths& widths) {
  const auto check = [&](const HookPoint& hook, const char* field, int64_t width) -> absl::Status {
    const absl::StatusOr<int64_t> expected = config.HookWidth(hook);
    if (!expected.ok()) return InvalidField(field, field, ": ", expected.status().message());
    if (*expected == width) return absl::OkStatus();
    return InvalidField(field, "the activations are ", width, " wide, but ", hook.name(),
                        " of model \"", inputs.model_name, "\" is ", *expected, " wide");
  };
  RETURN_IF_ERROR(check(inputs.hook, "hook_name", widths.d_in));
  if (!inputs.hook_out) return absl::OkStatus();
  RETURN_IF_ERROR(check(*inputs.hook_out, "hook_name_out", widths.d_out));
  if (ExecutionOrder(*inputs.hook_out, config.n_layers) <
      ExecutionOrder(inputs.hook, config.n_layers)) {
    return InvalidField("hook_name_out", "the model reaches ", inputs.hook_out->name(),
                        ", which the SAE would write, before ", inputs.hook.name(),
                        ", which it would read");
  }
  return absl::OkStatus();
}

// A member's name before its error, where there are several.
absl::Status Named(const absl::Status& status, absl::Span<const TrainingJob> members, size_t i) {
  return members.size() == 1 ? status : Annotate(status, members[i].sae_id);
}

absl::Status Adopt(Catalog* catalog, const JobRow& row, const TrainingJob& job,
                   const std::string& result_dir) {
  return catalog
      ->AdoptSae(job.sae_id, result_dir, job.model_id, job.hook_name, row.id, job.hook_name_out)
      .status();
}

bool IsAdopted(const Catalog& catalog, const TrainingJob& member, const JobRow& job) {
  const absl::StatusOr<SaeRow> made = catalog.GetSae(member.sae_id);
  return made.ok() && made->training_job_id == job.id;
}

}  // namespace

absl::StatusOr<TrainingPlan> MakeTrainingPlan(Catalog* catalog,
                                              absl::Span<const TrainingJob> members) {
  if (members.empty() || members.size() > kMaxSweepMembers) {
    return InvalidField("members", "there are ", members.size(), " members, 1 to ",
                        kMaxSweepMembers, " are possible");
  }
  RETURN_IF_ERROR(CheckIds(*catalog, members));
  for (const TrainingJob& member : members) {
    RETURN_IF_ERROR(CheckSameInputs(members[0], member));
  }
  RETURN_IF_ERROR(CheckCorpora(*catalog, members[0]));
  ASSIGN_OR_RETURN(const ModelConfig config, catalog->Config(members[0].model_id));
  ASSIGN_OR_RETURN(TrainingInputs inputs, LoadTrainingInputs(catalog, members[0]));

  TrainingPlan plan;
  std::vector<TrainingSpec> specs;
  std::vector<TrainingWidths> widths;
  std::map<std::string, int64_t> channels;  // of the stream, by their hook points
  for (size_t i = 0; i < members.size(); ++i) {
    const absl::Status status = [&]() -> absl::Status {
      RETURN_IF_ERROR(SetHooks(members[i], &inputs));
      absl::StatusOr<TrainingSpec> spec = Resolve(members[i].training, inputs);
      if (absl::IsUnimplemented(spec.status())) {
        return InvalidField("architecture", spec.status().message());
      }
      ASSIGN_OR_RETURN(specs.emplace_back(), std::move(spec));
      ASSIGN_OR_RETURN(widths.emplace_back(), WidthsOf(inputs));
      return CheckFitsModel(config, inputs, widths.back());
    }();
    if (!status.ok()) return Named(status, members, i);
    RETURN_IF_ERROR(CheckSameStream(members[0].sae_id, specs[0], members[i].sae_id, specs.back()));
    plan.resolved.push_back(members[i]);
    plan.resolved.back().training = specs.back();
    channels[inputs.hook.name()] = widths.back().d_in;
    if (inputs.hook_out) channels[inputs.hook_out->name()] = widths.back().d_out;
  }
  int64_t stream_width = 0;
  for (const auto& [hook, width] : channels) stream_width += width;
  plan.steps = static_cast<uint64_t>(TotalSteps(specs[0]));
  plan.memory_bytes = SweepMemoryBytes(specs, widths, stream_width);
  plan.available_bytes = AvailableTrainingMemory(inputs.device());
  RETURN_IF_ERROR(CheckSweepMemory(specs, widths, stream_width, plan.available_bytes));
  return plan;
}

std::vector<std::string> ResourcesOf(const TrainingJob& job) {
  std::vector<std::string> uses = {absl::StrCat("model:", job.model_id)};
  if (!job.corpus_id.empty()) uses.push_back(absl::StrCat("corpus:", job.corpus_id));
  for (const MixedCorpus& mixed : job.more_corpora) {
    uses.push_back(absl::StrCat("corpus:", mixed.corpus_id));
  }
  if (!job.activation_cache.empty()) uses.push_back(absl::StrCat("cache:", job.activation_cache));
  return uses;
}

absl::Status RunTrainingJob(Catalog* catalog, const JobRow& job, const RunContext& context) {
  ASSIGN_OR_RETURN(const TrainingJob training, TrainingJobFromJson(job.spec));
  if (IsAdopted(*catalog, training, job)) return absl::OkStatus();
  const std::string result_dir = ResultDir(*catalog, job);
  ASSIGN_OR_RETURN(const TrainingInputs inputs, LoadTrainingInputs(catalog, training));
  RETURN_IF_ERROR(RunTraining(inputs, training.training, context, result_dir));
  return Adopt(catalog, job, training, result_dir);
}

absl::Status RunSweepJob(Catalog* catalog, const JobRow& job, const RunContext& context) {
  ASSIGN_OR_RETURN(const SweepJob sweep, SweepJobFromJson(job.spec));
  if (sweep.members.empty()) return InvalidArgument("job specification: a sweep without members");
  const std::string results = ResultDir(*catalog, job);
  // Results appear when all members have been trained, and leave as they are adopted.
  bool trained = true;
  std::vector<SweepMember> members;
  for (const TrainingJob& member : sweep.members) {
    SweepMember& run = members.emplace_back();
    TrainingInputs hooks;
    RETURN_IF_ERROR(SetHooks(member, &hooks));
    run.name = member.sae_id;
    run.spec = member.training;
    run.hook = hooks.hook;
    run.hook_out = hooks.hook_out;
    run.output_dir = JoinPath(results, member.sae_id);
    std::error_code error;
    trained = trained && (IsAdopted(*catalog, member, job) ||
                          std::filesystem::is_directory(run.output_dir, error));
  }
  if (!trained) {
    RETURN_IF_ERROR(EnsureDir(results));
    ASSIGN_OR_RETURN(const TrainingInputs inputs, LoadTrainingInputs(catalog, sweep.members[0]));
    RETURN_IF_ERROR(RunSweep(inputs, members, context));
  }
  for (size_t i = 0; i < members.size(); ++i) {
    RETURN_IF_ERROR(Adopt(catalog, job, sweep.members[i], members[i].output_dir));
  }
  return absl::OkStatus();
}

}  // namespace featurescope
