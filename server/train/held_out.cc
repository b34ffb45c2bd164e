#include "server/train/held_out.h"

#include <algorithm>
#include <memory>

#include "server/base/status.h"
#include "server/tensor/gate.h"
#include "server/train/model_source.h"

namespace featurescope {

absl::StatusOr<std::vector<torch::Tensor>> CollectHeldOutRows(const TrainingInputs& inputs,
                                                              const std::vector<HookPoint>& hooks,
                                                              const TrainingSpec& spec,
                                                              const RunContext& ctx) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelSource> source,
                   ModelSource::Create(inputs, hooks, spec, ContextOrder::Kind::kInOrder));
  const ContextRange contexts = inputs.corpus->heldout_contexts();
  const auto wanted = static_cast<int64_t>(spec.heldout_tokens);
  // Room for what is wanted and the rest of the last pass.
  const int64_t capacity =
      wanted + static_cast<int64_t>(source->contexts_per_forward() * inputs.corpus->context_size());
  std::vector<torch::Tensor> rows;
  RETURN_IF_ERROR(TorchGate("allocating held-out activations", [&] {
    for (const int64_t width : source->widths()) {
      rows.push_back(
          torch::empty({capacity, width},
                       torch::TensorOptions().dtype(torch::kFloat32).device(source->device())));
    }
  }));
  int64_t n = 0;
  for (uint64_t next = contexts.begin; next < contexts.end && n < wanted;) {
    std::vector<ContextOrder::Place> places;
    const uint64_t end = std::min(next + source->contexts_per_forward(), contexts.end);
    for (; next < end; ++next) places.push_back({inputs.corpus.get(), next});
    RETURN_IF_ERROR(ctx.device->RunBackground(
        ctx.cancel, [&] { return source->ForwardContexts(places, ctx.cancel, &rows, &n); }));
  }
  if (n == 0) return std::vector<torch::Tensor>();
  for (torch::Tensor& of_channel : rows) of_channel = of_channel.slice(0, 0, std::min(n, wanted));
  return rows;
}

}  // namespace featurescope
