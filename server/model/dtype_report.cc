#include "server/model/dtype_report.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/status.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

// What one loading gives on the tokens; all on the CPU in float32.
struct Observed {
  std::map<std::string, torch::Tensor> activations;  // [tokens, width] by hook name
  torch::Tensor logits;                              // [tokens, d_vocab]
};

std::vector<HookPoint> ResidualStream(const ModelConfig& config) {
  std::vector<HookPoint> hooks;
  for (int layer = 0; layer < config.n_layers; ++layer) {
    hooks.push_back({HookKind::kResidPre, layer});
  }
  hooks.push_back({HookKind::kResidPost, config.n_layers - 1});
  return hooks;
}

absl::Status CheckHooks(const ModelConfig& config, absl::Span<const HookPoint> hooks) {
  for (const HookPoint& hook : hooks) RETURN_IF_ERROR(config.HookWidth(hook).status());
  return absl::OkStatus();
}

torch::Tensor OnCpu(const torch::Tensor& value) {
  return value.to(torch::kCPU).to(torch::kFloat32).clone();
}

SequenceBatch BatchOf(const std::vector<std::vector<uint32_t>>& sequences) {
  SequenceBatch batch;
  for (const std::vector<uint32_t>& sequence : sequences) batch.Append(sequence);
  return batch;
}

absl::StatusOr<Observed> Observe(const Transformer& model, const SequenceBatch& batch,
                                 absl::Span<const HookPoint> hooks, const CancelToken& cancel) {
  Observed observed;
  HookSet set;
  for (const HookPoint& hook : hooks) {
    set.Add(hook, [&observed](const HookContext& context, torch::Tensor& value) {
      observed.activations[context.hook.name()] = OnCpu(value.flatten(1));
    });
  }
  ForwardOptions options;
  options.hooks = &set;
  options.logits = LogitsOf::kAllTokens;
  options.cancel = cancel;
  ASSIGN_OR_RETURN(const torch::Tensor logits, model.Forward(batch, options));
  ASSIGN_OR_RETURN(observed.logits, TorchGate("fetching logits", [&] { return OnCpu(logits); }));
  return observed;
}

HookDifference Difference(const HookPoint& hook, const torch::Tensor& reference,
                          const torch::Tensor& other) {
  constexpr double kTiny = 1e-30;
  const torch::Tensor want = reference.to(torch::kFloat64);
  const torch::Tensor got = other.to(torch::kFloat64);
  HookDifference difference;
  difference.hook = hook;
  difference.relative_l2 =
      (got - want).norm().item<double>() / std::max(want.norm().item<double>(), kTiny);
  difference.max_abs = (got - want).abs().max().item<double>();
  difference.reference_rms = want.square().mean().sqrt().item<double>();
  const torch::Tensor cosine =
      (want * got).sum(1) / (want.norm(2, {1}) * got.norm(2, {1})).clamp_min(kTiny);
  difference.min_cosine = cosine.min().item<double>();
  return difference;
}

// The token that follows each one in its sequence, -1 after the last.
std::vector<int64_t> NextTokens(const SequenceBatch& batch) {
  std::vector<int64_t> next(batch.tokens.begin() + 1, batch.tokens.end());
  next.push_back(-1);
  for (size_t i = 1; i < batch.offsets.size(); ++i) {
    next[static_cast<size_t>(batch.offsets[i] - 1)] = -1;
  }
  return next;
}

void CompareLogits(const torch::Tensor& reference, const torch::Tensor& other,
                   const SequenceBatch& batch, DtypeReport* report) {
  constexpr int64_t kRows = 64;  // at a time: vocabularies are large
  const std::vector<int64_t> next = NextTokens(batch);
  double kl_sum = 0;
  double loss_sum = 0;
  int64_t n_agreeing = 0;
  int64_t n_next = 0;
  for (int64_t begin = 0; begin < reference.size(0); begin += kRows) {
    const int64_t n = std::min(kRows, reference.size(0) - begin);
    const auto logprobs = [&](const torch::Tensor& logits) {
      return torch::log_softmax(logits.narrow(0, begin, n).to(torch::kFloat64), 1);
    };
    const torch::Tensor want = logprobs(reference);
    const torch::Tensor got = logprobs(other);
    const torch::Tensor kl = (want.exp() * (want - got)).sum(1);
    kl_sum += kl.sum().item<double>();
    report->max_kl = std::max(report->max_kl, kl.max().item<double>());
    n_agreeing += want.argmax(1).eq(got.argmax(1)).sum().item<int64_t>();
    for (int64_t row = 0; row < n; ++row) {
      const int64_t token = next[static_cast<size_t>(begin + row)];
      if (token < 0) continue;
      loss_sum += (want[row][token] - got[row][token]).item<double>();
      ++n_next;
    }
  }
  const auto n_tokens = static_cast<double>(reference.size(0));
  report->mean_kl = kl_sum / n_tokens;
  report->top1_agreement = static_cast<double>(n_agreeing) / n_tokens;
  report->ce_difference = n_next > 0 ? loss_sum / static_cast<double>(n_next) : 0;
}

absl::StatusOr<DtypeReport> Compare(const Observed& reference, const Observed& other,
                                    const SequenceBatch& batch, absl::Span<const HookPoint> hooks) {
  return TorchGate("comparing dtypes", [&] {
    DtypeReport report;
    report.n_tokens = batch.n_tokens();
    for (const HookPoint& hook : hooks) {
      report.hooks.push_back(Difference(hook, reference.activations.at(hook.name()),
                                        other.activations.at(hook.name())));
    }
    CompareLogits(reference.logits, other.logits, batch, &report);
    return report;
  });
}

}  // namespace

absl::StatusOr<DtypeReport> CompareDtypes(const Transformer& reference, const Transformer& other,
                                          const std::vector<std::vector<uint32_t>>& sequences,
                                          absl::Span<const HookPoint> hooks,
                                          const CancelToken& cancel) {
  if (reference.hash() != other.hash()) {
    return FailedPrecondition("the models to compare are not the same: their files have hashes ",
                              reference.hash(), " and ", other.hash());
  }
  const std::vector<HookPoint> residual = ResidualStream(reference.config());
  if (hooks.empty()) hooks = residual;
  RETURN_IF_ERROR(CheckHooks(reference.config(), hooks));
  const SequenceBatch batch = BatchOf(sequences);
  ASSIGN_OR_RETURN(const Observed want, Observe(reference, batch, hooks, cancel));
  ASSIGN_OR_RETURN(const Observed got, Observe(other, batch, hooks, cancel));
  ASSIGN_OR_RETURN(DtypeReport report, Compare(want, got, batch, hooks));
  report.reference_dtype = reference.dtype();
  report.dtype = other.dtype();
  return report;
}

absl::StatusOr<DtypeReport> MeasureDtype(absl::string_view directory, const LoadOptions& options,
                                         const std::vector<std::vector<uint32_t>>& sequences,
                                         absl::Span<const HookPoint> hooks,
                                         const CancelToken& cancel) {
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(directory));
  const std::vector<HookPoint> residual = ResidualStream(config);
  if (hooks.empty()) hooks = residual;
  RETURN_IF_ERROR(CheckHooks(config, hooks));
  const SequenceBatch batch = BatchOf(sequences);
  const auto observe = [&](torch::ScalarType dtype) -> absl::StatusOr<Observed> {
    LoadOptions with_dtype = options;
    with_dtype.dtype = dtype;
    ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> model,
                     Transformer::Load(directory, with_dtype));
    return Observe(*model, batch, hooks, cancel);
  };
  ASSIGN_OR_RETURN(const Observed want, observe(torch::kFloat32));
  ASSIGN_OR_RETURN(const Observed got, observe(options.dtype));
  ASSIGN_OR_RETURN(DtypeReport report, Compare(want, got, batch, hooks));
  report.dtype = options.dtype;
  return report;
}

std::string FormatDtypeReport(const DtypeReport& report) {
  std::string text =
      absl::StrFormat("%s against %s on %d tokens\n%-34s %12s %12s %12s %12s\n",
                      c10::toString(report.dtype), c10::toString(report.reference_dtype),
                      report.n_tokens, "hook", "relative L2", "max |diff|", "rms", "min cosine");
  for (const HookDifference& hook : report.hooks) {
    absl::StrAppendFormat(&text, "%-34s %12.3e %12.3e %12.3e %12.6f\n", hook.hook.name(),
                          hook.relative_l2, hook.max_abs, hook.reference_rms, hook.min_cosine);
  }
  absl::StrAppendFormat(&text,
                        "next token: KL %.3e nats (worst %.3e), top-1 agreement %.4f, loss %+.3e\n",
                        report.mean_kl, report.max_kl, report.top1_agreement, report.ce_difference);
  return text;
}

}  // namespace featurescope
