#include "server/train/run_training.h"

#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/train/sae_trainer.h"
#include "server/train/training_run.h"

namespace featurescope {
namespace {

constexpr size_t kMaxMembers = 256;

// The channel of `hook` among `hooks`, which gets it where it is not there yet.
size_t ChannelOf(const HookPoint& hook, std::vector<HookPoint>* hooks) {
  const auto it = std::find(hooks->begin(), hooks->end(), hook);
  if (it != hooks->end()) return static_cast<size_t>(it - hooks->begin());
  hooks->push_back(hook);
  return hooks->size() - 1;
}

absl::StatusOr<MemberPlan> PlanOf(const TrainingInputs& inputs, const TrainingSpec& spec,
                                  std::vector<HookPoint>* hooks) {
  MemberPlan plan;
  plan.inputs = inputs;
  ASSIGN_OR_RETURN(plan.spec, Resolve(spec, inputs));
  ASSIGN_OR_RETURN(plan.widths, WidthsOf(inputs));
  plan.input_channel = ChannelOf(inputs.hook, hooks);
  plan.target_channel = inputs.hook_out ? ChannelOf(*inputs.hook_out, hooks) : plan.input_channel;
  plan.fingerprint = MemberFingerprint(inputs, plan.spec);
  return plan;
}

absl::Status CheckMemory(const std::vector<MemberPlan>& plans, size_t n_channels) {
  std::vector<TrainingSpec> specs;
  std::vector<TrainingWidths> widths;
  std::vector<int64_t> channels(n_channels, 0);
  for (const MemberPlan& plan : plans) {
    specs.push_back(plan.spec);
    widths.push_back(plan.widths);
    channels[plan.target_channel] = plan.widths.d_out;
    channels[plan.input_channel] = plan.widths.d_in;
  }
  const int64_t stream_width = std::accumulate(channels.begin(), channels.end(), int64_t{0});
  return CheckSweepMemory(specs, widths, stream_width,
                          AvailableTrainingMemory(plans[0].inputs.device()));
}

absl::Status Run(const TrainingInputs& inputs, const RunContext& ctx, std::vector<HookPoint> hooks,
                 std::vector<MemberPlan> plans) {
  RETURN_IF_ERROR(CheckMemory(plans, hooks.size()));
  bool finished = true;
  for (const MemberPlan& plan : plans) {
    RETURN_IF_ERROR(EnsureDir(plan.work_dir));
    ASSIGN_OR_RETURN(const bool one, TrainingMember(plan).IsFinished());
    finished = finished && one;
  }
  if (finished) return absl::OkStatus();
  TrainingRun run(inputs, ctx, std::move(hooks), std::move(plans));
  RETURN_IF_ERROR(run.Prepare());
  RETURN_IF_ERROR(run.Train());
  return run.Export();
}

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= 128 && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
                  c == '.';
         });
}

}  // namespace

absl::Status CheckSameStream(absl::string_view name, const TrainingSpec& spec,
                             absl::string_view other_name, const TrainingSpec& other) {
  const auto differ = [&](const char* field) {
    return InvalidField(field, "members ", name, " and ", other_name, " differ in ", field,
                        ", but one stream feeds them");
  };
  if (spec.tokens != other.tokens) return differ("tokens");
  if (spec.batch_size != other.batch_size) return differ("batch_size");
  if (spec.buffer_tokens != other.buffer_tokens) return differ("buffer_tokens");
  if (spec.seed != other.seed) return differ("seed");
  if (spec.positions != other.positions) return differ("positions");
  if (spec.exclude_special_tokens != other.exclude_special_tokens) {
    return differ("exclude_special_tokens");
  }
  return absl::OkStatus();
}

uint64_t AvailableTrainingMemory(torch::Device device) {
  if (!device.is_cpu()) return 0;
  const int64_t pages = ::sysconf(_SC_PHYS_PAGES);
  const int64_t size = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(size) : 0;
}

uint64_t SweepMemoryBytes(absl::Span<const TrainingSpec> resolved,
                          absl::Span<const TrainingWidths> widths, int64_t stream_width) {
  uint64_t bytes = StreamMemoryBytes(resolved[0], stream_width);
  for (size_t i = 0; i < resolved.size(); ++i) {
    bytes += SaeTrainer::MemoryBytes(resolved[i], widths[i]);
  }
  return bytes;
}

absl::Status CheckSweepMemory(absl::Span<const TrainingSpec> resolved,
                              absl::Span<const TrainingWidths> widths, int64_t stream_width,
                              uint64_t available) {
  if (available == 0) return absl::OkStatus();
  const auto needed = [&](size_t n) {
    return SweepMemoryBytes(resolved.subspan(0, n), widths.subspan(0, n), stream_width);
  };
  const size_t n = resolved.size();
  if (n > 1 && needed(n) <= available) return absl::OkStatus();
  for (size_t i = 0; i < n; ++i) {
    RETURN_IF_ERROR(CheckTrainingMemory(resolved[i], widths[i], available));
  }
  if (n == 1) return absl::OkStatus();
  size_t fit = n - 1;
  while (fit > 1 && needed(fit) > available) --fit;
  return InvalidField("members", "the ", n, " members would hold ", needed(n) >> 20,
                      " MiB together, but only ", available >> 20, " MiB are there; the first ",
                      fit, " alone would fit, and the others in another run");
}

absl::Status RunTraining(const TrainingInputs& inputs, const TrainingSpec& spec,
                         const RunContext& ctx, const std::string& output_dir) {
  std::vector<HookPoint> hooks;
  ASSIGN_OR_RETURN(MemberPlan plan, PlanOf(inputs, spec, &hooks));
  plan.work_dir = ctx.work_dir;
  plan.output_dir = output_dir;
  return Run(inputs, ctx, std::move(hooks), {std::move(plan)});
}

absl::Status RunSweep(const TrainingInputs& inputs, const std::vector<SweepMember>& members,
                      const RunContext& ctx) {
  if (members.empty() || members.size() > kMaxMembers) {
    return InvalidField("members", "there are ", members.size(), " members; 1 to ", kMaxMembers,
                        " are allowed");
  }
  std::vector<HookPoint> hooks;
  std::vector<MemberPlan> plans;
  std::set<std::string> names;
  for (const SweepMember& member : members) {
    if (!IsName(member.name) || !names.insert(member.name).second) {
      return InvalidField("members", "the name '", member.name,
                          "' is taken, or has other characters than letters, digits, '-', '_' "
                          "and '.'");
    }
    TrainingInputs own = inputs;
    if (member.hook) own.hook = *member.hook;
    own.hook_out = member.hook_out;
    absl::StatusOr<MemberPlan> plan = PlanOf(own, member.spec, &hooks);
    if (!plan.ok()) return Annotate(plan.status(), member.name);
    plan->prefix = absl::StrCat(member.name, "/");
    plan->work_dir = JoinPath(ctx.work_dir, member.name);
    plan->output_dir = member.output_dir;
    plans.push_back(*std::move(plan));
    RETURN_IF_ERROR(
        CheckSameStream(members[0].name, plans[0].spec, member.name, plans.back().spec));
  }
  RETURN_IF_ERROR(EnsureDir(ctx.work_dir));
  return Run(inputs, ctx, std::move(hooks), std::move(plans));
}

}  // namespace featurescope
