// What an index should hold, computed densely and without any of the index's code but its cut into
// batches (products of other shapes round otherwise).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "server/index/batch_plan.h"
#include "server/index/run_indexing.h"

namespace featurescope {

struct NaiveActivations {
  torch::Tensor acts;   // float32 [tokens, d_sae], special tokens included
  torch::Tensor x;      // float32 [tokens, d_in]
  torch::Tensor x_hat;  // float32 [tokens, d_in]
  std::vector<uint32_t> tokens;
  std::vector<bool> special;
  int64_t context_size = 0;

  int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
  // Of one feature, its values on the tokens that count.
  std::vector<double> Positive(int64_t feature) const {
    std::vector<double> values;
    for (int64_t row = 0; row < n_tokens(); ++row) {
      const float act = At(row, feature);
      if (!special[row] && act > 0) values.push_back(act);
    }
    return values;
  }
  float At(int64_t row, int64_t feature) const {
    return acts.data_ptr<float>()[row * acts.size(1) + feature];
  }
  int64_t n_counted() const { return std::count(special.begin(), special.end(), false); }
};

inline NaiveActivations ComputeNaively(const IndexInputs& in, absl::Duration quantum,
                                       uint64_t n_contexts) {
  torch::NoGradGuard no_grad;
  NaiveActivations result;
  result.context_size = in.corpus->context_size();
  const BatchPlan plan = PlanBatches(in.model->config(), in.hook, in.sae->config(),
                                     result.context_size, /*on_gpu=*/false, quantum);
  std::vector<torch::Tensor> acts, xs, x_hats;
  for (uint64_t first = 0; first < n_contexts; first += plan.contexts_per_batch) {
    SequenceBatch batch;
    const uint64_t end = std::min<uint64_t>(n_contexts, first + plan.contexts_per_batch);
    for (uint64_t c = first; c < end; ++c) {
      std::vector<uint32_t> ids;
      EXPECT_TRUE(in.corpus->Context(c, &ids).ok());
      batch.Append(ids);
      for (uint32_t id : ids) {
        result.tokens.push_back(id);
        result.special.push_back(id == 0);
      }
    }
    torch::Tensor x;
    HookSet hooks;
    hooks.Add(in.hook, [&x](const HookContext&, torch::Tensor& value) { x = value.clone(); });
    ForwardOptions options;
    options.hooks = &hooks;
    EXPECT_TRUE(in.model->Forward(batch, options).ok());
    auto encoded = in.sae->Encode(x);
    EXPECT_TRUE(encoded.ok()) << encoded.status();
    xs.push_back(x);
    acts.push_back(encoded->acts.ToDense());
    x_hats.push_back(in.sae->Decode(*encoded));
  }
  result.x = torch::cat(xs);
  result.acts = torch::cat(acts).contiguous();
  result.x_hat = torch::cat(x_hats);
  return result;
}

}  // namespace featurescope
