#include "server/index/logit_effects.h"

#include <algorithm>
#include <utility>

#include "server/base/status.h"
#include "server/engine/quantum.h"
#include "server/index/batch_plan.h"
#include "server/tensor/gate.h"
#include "server/tensor/parallel.h"
#include "server/tensor/torch.h"

namespace featurescope {
namespace {

// Elements of W_U taken at a time: what a copy in float32 may cost.
constexpr int64_t kMaxBlockElements = int64_t{1} << 24;
constexpr int64_t kMaxFeaturesAtOnce = 4096;

template <typename Before>
void InsertEffect(std::vector<LogitEffectRow>& kept, LogitEffectRow effect, size_t keep,
                  Before before) {
  kept.insert(std::upper_bound(kept.begin(), kept.end(), effect, before), effect);
  if (kept.size() > keep) kept.pop_back();
}

// The directions of features [begin, begin + n), float32 [n, d_out].
torch::Tensor Directions(const Sae& sae, int64_t begin, int64_t n) {
  std::vector<torch::Tensor> rows;
  rows.reserve(n);
  for (int64_t f = begin; f < begin + n; ++f) {
    rows.push_back(sae.FeatureDirection(static_cast<uint32_t>(f)));
  }
  return torch::stack(rows);
}

}  // namespace

void LogitEffects::Offer(absl::Span<const float> effects, uint32_t first_token, size_t keep) {
  if (keep == 0) return;
  auto larger = [](const LogitEffectRow& a, const LogitEffectRow& b) {
    return a.effect > b.effect;
  };
  auto smaller = [](const LogitEffectRow& a, const LogitEffectRow& b) {
    return a.effect < b.effect;
  };
  for (size_t i = 0; i < effects.size(); ++i) {
    const LogitEffectRow effect = {first_token + static_cast<uint32_t>(i), effects[i]};
    if (top.size() < keep || effect.effect > top.back().effect) {
      InsertEffect(top, effect, keep, larger);
    }
    if (bottom.size() < keep || effect.effect < bottom.back().effect) {
      InsertEffect(bottom, effect, keep, smaller);
    }
  }
}

absl::StatusOr<std::vector<LogitEffects>> ComputeLogitEffects(
    const Transformer& model, const Sae& sae, size_t keep, const RunContext& run,
    const std::function<void(double)>& progress) {
  const int64_t d_sae = sae.config().d_sae;
  const int64_t d_model = model.config().d_model;
  const int64_t d_vocab = model.config().d_vocab;
  const int64_t n_tokens = std::clamp<int64_t>(kMaxBlockElements / d_model, 1, d_vocab);
  const double flops = 2.0 * static_cast<double>(d_model) * static_cast<double>(n_tokens);
  const double fit = FlopsPerQuantum(!sae.device().is_cpu(), run.quantum) / flops;
  const auto n_features =
      static_cast<int64_t>(std::clamp(fit, 1.0, static_cast<double>(kMaxFeaturesAtOnce)));

  std::vector<LogitEffects> effects(d_sae);
  torch::Tensor W_U;  // of the tokens at hand, float32 [d_model, n]
  auto offer_block = [&](int64_t first_feature, int64_t first_token) {
    const int64_t n = std::min(n_features, d_sae - first_feature);
    const torch::Tensor block =
        torch::mm(Directions(sae, first_feature, n), W_U).cpu().contiguous();  // [n, tokens]
    const float* values = block.data_ptr<float>();
    const int64_t width = block.size(1);
    ParallelFor(0, n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        effects[first_feature + i].Offer({values + i * width, static_cast<size_t>(width)},
                                         static_cast<uint32_t>(first_token), keep);
      }
    });
  };
  for (int64_t token = 0; token < d_vocab; token += n_tokens) {
    for (int64_t feature = 0; feature < d_sae; feature += n_features) {
      RETURN_IF_ERROR(run.device->RunBackground(run.cancel, [&] {
        return TorchGate("computing logit effects", [&] {
          if (feature == 0) {
            const int64_t n = std::min(n_tokens, d_vocab - token);
            W_U = model.unembedding().narrow(1, token, n).to(sae.device(), torch::kFloat32);
          }
          offer_block(feature, token);
        });
      }));
      const double share_of_block = static_cast<double>(feature) / static_cast<double>(d_sae);
      progress((static_cast<double>(token) + share_of_block * static_cast<double>(n_tokens)) /
               static_cast<double>(d_vocab));
    }
  }
  return effects;
}

}  // namespace featurescope
