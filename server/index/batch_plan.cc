#include "server/index/batch_plan.h"

#include <algorithm>

#include "server/engine/quantum.h"

namespace featurescope {
namespace {

// Larger batches gain nothing and cost memory.
constexpr int64_t kMaxCpuTokens = 4096;
constexpr int64_t kMaxGpuTokens = 65536;
// Smaller pieces of a context spend their time on loading weights.
constexpr int64_t kMinTokens = 16;

}  // namespace

double FlopsPerToken(const ModelConfig& model, const HookPoint& hook, const SaeConfig& sae,
                     int64_t context_size) {
  const auto d = static_cast<double>(model.d_model);
  const auto heads = static_cast<double>(model.n_heads * model.d_head);
  const auto kv_heads = static_cast<double>(model.n_kv_heads * model.d_head);
  const double attention =
      d * (2 * heads + 2 * kv_heads) + heads * static_cast<double>(context_size);
  const double mlp = (model.gated_mlp ? 3.0 : 2.0) * d * static_cast<double>(model.d_mlp);
  int layers = hook.layer + 1;
  if (hook.kind == HookKind::kLnFinal) layers = model.n_layers;
  const double encoder = static_cast<double>(sae.d_in) * static_cast<double>(sae.d_sae);
  return 2 * (layers * (attention + mlp) + encoder);
}

BatchPlan PlanBatches(const ModelConfig& model, const HookPoint& hook, const SaeConfig& sae,
                      int64_t context_size, bool on_gpu, absl::Duration quantum) {
  const double tokens =
      FlopsPerQuantum(on_gpu, quantum) / FlopsPerToken(model, hook, sae, context_size);
  const int64_t most = on_gpu ? kMaxGpuTokens : kMaxCpuTokens;
  BatchPlan plan;
  plan.tokens_per_quantum = static_cast<int64_t>(
      std::clamp(tokens, static_cast<double>(kMinTokens), static_cast<double>(most)));
  plan.contexts_per_batch = std::max<int64_t>(1, plan.tokens_per_quantum / context_size);
  return plan;
}

}  // namespace featurescope
