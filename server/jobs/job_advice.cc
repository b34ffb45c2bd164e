#include "server/jobs/job_advice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/jobs/job_inputs.h"
#include "server/jobs/spec_json.h"
#include "server/train/model_source.h"

namespace featurescope {
namespace {

constexpr uint32_t kMaxPoints = 2000;

// About the tokens of one epoch: contexts that hold special tokens only are counted, too.
absl::StatusOr<uint64_t> EpochOf(Catalog* catalog, const TrainingJob& job) {
  TrainingInputs inputs;
  ASSIGN_OR_RETURN(CorpusHandle corpus, catalog->LoadedCorpus(job.corpus_id));
  inputs.corpus = std::move(corpus.tokens);
  uint64_t contexts = inputs.corpus->train_contexts().size();
  for (const MixedCorpus& mixed : job.more_corpora) {
    ASSIGN_OR_RETURN(CorpusHandle more, catalog->LoadedCorpus(mixed.corpus_id));
    contexts += more.tokens->train_contexts().size();
    inputs.more_corpora.push_back({std::move(more.tokens), mixed.weight});
  }
  if (job.training.positions != TokenPositions::kAll) return contexts;
  return TokensOfOneEpoch(inputs, job.training);
}

// The spec with its defaults, from what is cheap to look up: no model is loaded, and corpora are
// opened only where their length matters.
absl::StatusOr<TrainingSpec> ResolveStored(Catalog* catalog, const TrainingJob& job) {
  const bool by_epoch = job.training.epochs > 0 || job.training.batch_size == -1;
  if (by_epoch && job.from_files()) {
    ASSIGN_OR_RETURN(const TrainingInputs inputs, LoadTrainingInputs(catalog, job));
    return Resolve(job.training, inputs);
  }
  TrainingInputs hooks;
  RETURN_IF_ERROR(SetHooks(job, &hooks));
  ASSIGN_OR_RETURN(const ModelConfig config, catalog->Config(job.model_id));
  TrainingWidths widths;
  ASSIGN_OR_RETURN(widths.d_in, config.HookWidth(hooks.hook));
  widths.d_out = widths.d_in;
  if (hooks.hook_out) {
    ASSIGN_OR_RETURN(widths.d_out, config.HookWidth(*hooks.hook_out));
  }
  uint64_t epoch = 1;
  if (by_epoch) {
    ASSIGN_OR_RETURN(epoch, EpochOf(catalog, job));
  }
  return ResolveForWidths(job.training, widths, std::max<uint64_t>(epoch, 1));
}

// What the points say of one SAE: metrics whose names begin with `prefix`, without it.
std::vector<RunMetrics> MemberPoints(absl::Span<const MetricRow> rows, const std::string& prefix) {
  std::vector<RunMetrics> points;
  for (const MetricRow& row : rows) {
    RunMetrics& point = points.emplace_back();
    point.step = row.step;
    point.tokens = row.tokens;
    for (auto it = row.values.lower_bound(prefix); it != row.values.end(); ++it) {
      absl::string_view name = it->first;
      if (!absl::ConsumePrefix(&name, prefix)) break;
      point.values.emplace(std::string(name), it->second);
    }
  }
  return points;
}

}  // namespace

absl::StatusOr<std::vector<MemberAdvice>> AdviseOnJob(Catalog* catalog, const JobRow& job) {
  std::vector<TrainingJob> members;
  if (job.kind == kTrainingKind) {
    ASSIGN_OR_RETURN(members.emplace_back(), TrainingJobFromJson(job.spec));
  } else if (job.kind == kSweepKind) {
    ASSIGN_OR_RETURN(SweepJob sweep, SweepJobFromJson(job.spec));
    members = std::move(sweep.members);
  } else {
    return InvalidField("job_id", "job ", job.id, " trains nothing: it is of the kind ", job.kind);
  }
  ASSIGN_OR_RETURN(const std::vector<MetricRow> rows,
                   catalog->state().GetMetrics(job.id, kMaxPoints));
  std::vector<MemberAdvice> advice;
  for (const TrainingJob& member : members) {
    ASSIGN_OR_RETURN(const TrainingSpec spec, ResolveStored(catalog, member));
    const std::string prefix =
        job.kind == kSweepKind ? absl::StrCat(member.sae_id, "/") : std::string();
    for (Advice& each : AdviseOnTraining(MemberPoints(rows, prefix), spec)) {
      advice.push_back({member.sae_id, std::move(each)});
    }
  }
  return advice;
}

}  // namespace featurescope
